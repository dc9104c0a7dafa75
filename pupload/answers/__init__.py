"""What the server answers: the shapes that clients rely on, shared by the controller and the Python client. PURE.

Source: contract.md 7 to 9.
"""
