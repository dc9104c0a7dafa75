"""What runs begin with: values, bytes, files from here, kept files, URLs, attachments, uploads."""

from pathlib import Path

import pytest
import requests

from pupload.client import Attachment, BadRequest, Client, FileInput, Input, NotAwaited
from tests.support.shell_steps import a_request, a_source, a_step
from tests.support.web_server import Reply, WebServer

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

MB = 1024 * 1024


def test_an_edge_takes_whatever_there_is(client: Client, tmp_path: Path, strangers: WebServer) -> None:
    file = tmp_path / "here.bin"
    file.write_bytes(b"from here")
    url = strangers.on("/there.txt", Reply(body=b"from there"))
    kept = client.files.put(b"kept", name="kept.txt")
    given: dict[str, Input] = {
        "value": "as it is",
        "json": {"a": [1, 2]},
        "bytes": b"by\0tes",
        "path": file,
        "url": FileInput(uri=url),
        "data": FileInput(uri="data:text/plain;base64,YWJj"),
        "kept": kept,
    }
    names = sorted(given)
    script = "; ".join(f'cat "$INPUT_{name.upper()}" >> "$OUTPUT_OUT"; printf "|" >> "$OUTPUT_OUT"' for name in names)
    result = client.run(a_request(a_step("join", script, reads={name: name for name in names})), given)
    client.artifact(result.id, "out", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b'by\0tes|abc|{"a": [1, 2]}|kept|from here|from there|as it is|'
    client.files.delete(kept.id)


def test_files_are_kept_listed_and_brought_back(client: Client, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("some notes")
    seen: list[int] = []
    kept = client.files.put(tmp_path / "notes.txt", progress=seen.append)
    assert (kept.name, kept.size, seen[-1]) == ("notes.txt", 10, 10)
    assert client.files.get(kept.id, tmp_path / "back.txt").read_text() == "some notes"
    assert kept.id in {file.id for file in client.files.list(limit=500).files}
    client.files.delete(kept.id)
    assert kept.id not in {file.id for file in client.files.list(limit=500).files}


def test_an_attachment_reaches_the_node(client: Client, strangers: WebServer) -> None:
    url = strangers.on("/sdk/notes.txt", Reply(body=b"a stranger's notes"))
    count = a_request(a_source("count", 'wc -c < "$PUP_ATTACHMENTS/notes.txt" > "$OUTPUT_OUT"', Attachments=True))
    assert client.run(count, attachments=[url]).values["out"] in {"18\n", 18}
    assert client.run(count, attachments=[Attachment(uri=url, name="notes.txt")]).status == "COMPLETE"
    pictures = a_request(a_step(Inputs=[{"Name": "in", "Type": "image/png"}], Outputs=[{"Name": "out"}]))
    with pytest.raises(BadRequest) as raised:
        client.run(pictures, {"in": "x"}, attachments=[url])
    assert raised.value.code == "NODE_MIME_INCOMPATIBLE"


def test_an_awaited_file_is_uploaded_with_progress(client: Client, tmp_path: Path) -> None:
    (tmp_path / "in.bin").write_bytes(b"abc" * 1000)
    job, seen = client.run_async(a_request(a_step())), list[int]()
    client.upload(job.id, "in", tmp_path / "in.bin", seen.append)
    result = job.wait(90)
    assert result.outputs["out"].download(tmp_path / "out.bin").read_bytes() == b"abc" * 1000
    assert seen[-1] == 3000
    with pytest.raises(NotAwaited):
        client.upload(job.id, "in", tmp_path / "in.bin")


def test_a_webhook_well_is_posted_to(client: Client) -> None:
    job = client.run_async(a_request(a_step(), DataWells=[{"Edge": "in", "Source": "webhook"}]))
    (awaited,) = job.poll().waiting_urls
    assert requests.post(awaited.post_url, data=b"posted", timeout=60).status_code == 204
    assert job.wait(90).values == {"out": "posted"}


def test_a_large_file_goes_in_parts_and_is_gone_on_with(client: Client, tmp_path: Path) -> None:
    file, seen = tmp_path / "in.bin", list[int]()
    file.write_bytes(bytes(range(256)) * 4096 * 11)
    job = client.run_async(a_request(a_step(script='wc -c < "$INPUT_IN" > "$OUTPUT_OUT"')))
    begun = client.begin_upload(job.id, "in", 11 * MB, part_size=5 * MB)
    assert (begun.part_count, client.find_upload(job.id, "in", begun.id).parts) == (3, [])
    with Client(client.base_url) as elsewhere:
        elsewhere.upload(job.id, "in", file, seen.append, upload_id=begun.id)
    assert (max(seen), job.wait(90).values) == (11 * MB, {"out": f"{11 * MB}\n"})
    assert client.find_upload(job.id, "in", begun.id).status == "completed"
