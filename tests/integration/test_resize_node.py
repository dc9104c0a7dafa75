"""The shipped picture node, run as the worker runs it: no network, no capabilities, read-only root, not root."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

pytestmark = pytest.mark.integration

IMAGE = "pupload/resize:latest"
PHOTO = Path(__file__).parents[2] / "examples/image-resize/photo.jpg"
RESULT = "/pup/out/resized"


@dataclass(frozen=True, slots=True)
class Exit:
    """How one container ended."""

    code: int
    log: str


@dataclass(frozen=True, slots=True)
class Node:
    """The node with a folder for its inputs and one for its outputs."""

    engine: docker.DockerClient
    folder: Path

    def give(self, name: str, content: bytes) -> str:
        (self.folder / "in" / name).write_bytes(content)
        return f"/pup/in/{name}"

    def run(self, *argv: str, **env: str) -> Exit:
        """Runs `argv`, or the image's own command when there is none."""
        container = self.engine.containers.create(
            IMAGE, list(argv) or None, environment=env, user="65532:65532", read_only=True,
            network_disabled=True, network_mode="none", cap_drop=["ALL"], security_opt=["no-new-privileges"],
            tmpfs={"/tmp": "size=64m,nosuid,nodev"}, mem_limit="2g", memswap_limit="2g", pids_limit=256, init=True,
            volumes={
                str(self.folder / "in"): {"bind": "/pup/in", "mode": "ro"},
                str(self.folder / "out"): {"bind": "/pup/out", "mode": "rw"},
            },
        )  # fmt: skip
        try:
            container.start()
            code = container.wait(timeout=60)["StatusCode"]
            return Exit(code, container.logs().decode())
        finally:
            container.remove(force=True, v=True)

    def made(self, path: str = RESULT) -> str:
        """What the picture at `path` is, such as `JPEG 800x378`, as another program sees it."""
        return self.run("identify", "-format", "%m %wx%h", path).log

    def output(self) -> bytes:
        return (self.folder / "out/resized").read_bytes()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    for name, mode in (("in", 0o755), ("out", 0o777)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    engine = docker.from_env()
    yield Node(engine, tmp_path)
    engine.close()


def turned(jpeg: bytes, orientation: int) -> bytes:
    """The same JPEG with an EXIF block that holds its orientation."""
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff = b"II*\x00" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)
    exif = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def bomb(side: int) -> bytes:
    """A few bytes of PNG that claim to be a white picture of `side` times `side` pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * side)) + chunk(b"IEND", b"")


def test_environment_alone_tells_it_what_to_do(node: Node) -> None:
    photo = node.give("image.jpg", PHOTO.read_bytes())
    end = node.run(INPUT_IMAGE=photo, OUTPUT_RESIZED=RESULT, FLAG_WIDTH="400")
    assert end.code == 0
    assert node.made() == "JPEG 400x189"


def test_ports_may_have_any_name_when_there_is_one_of_each(node: Node) -> None:
    photo = node.give("photograph", PHOTO.read_bytes())
    assert node.run(INPUT_PHOTOGRAPH=photo, OUTPUT_SMALL_ONE=RESULT).code == 0
    assert node.made() == "JPEG 800x378"


def test_the_log_tells_input_result_and_progress(node: Node) -> None:
    photo = node.give("image.jpg", PHOTO.read_bytes())
    lines = node.run("pup-image", "resize", photo, RESULT, "--width=400").log.splitlines()
    assert lines[0] == "read jpeg 1024x484"
    assert "::progress 20%" in lines
    assert lines[-2].startswith("wrote jpeg 400x189, ")
    assert lines[-1] == "::progress 100%"


@pytest.mark.parametrize("kind", ["png", "webp", "gif", "tiff"])
def test_a_picture_keeps_its_format(node: Node, kind: str) -> None:
    photo = node.give("image.jpg", PHOTO.read_bytes())
    assert node.run("pup-image", "convert", photo, RESULT, f"--format={kind}").code == 0
    converted = node.give("converted", node.output())
    assert node.run("pup-image", "resize", converted, "/pup/out/again", "--height=100").code == 0
    assert node.made("/pup/out/again") == f"{kind.upper()} 212x100"


def test_convert_keeps_the_size(node: Node) -> None:
    photo = node.give("image.jpg", PHOTO.read_bytes())
    assert node.run("pup-image", "convert", photo, RESULT, "--format=png", "--width=", "--height=").code == 0
    assert node.made() == "PNG 1024x484"


def test_the_extension_of_the_output_says_the_format(node: Node) -> None:
    photo = node.give("image.jpg", PHOTO.read_bytes())
    assert node.run("pup-image", "resize", photo, "/pup/out/small.webp", "--width=100").code == 0
    assert node.made("/pup/out/small.webp") == "WEBP 100x47"


def test_a_thumbnail_fills_its_box(node: Node) -> None:
    photo = node.give("image.jpg", PHOTO.read_bytes())
    assert node.run("pup-image", "thumbnail", photo, RESULT, "--width=120", "--height=90").code == 0
    assert node.made() == "JPEG 120x90"


def test_a_picture_grows_only_when_told(node: Node) -> None:
    photo = node.give("image.jpg", PHOTO.read_bytes())
    assert node.run("pup-image", "resize", photo, RESULT, "--width=2000").code == 0
    assert node.made() == "JPEG 1024x484"
    assert node.run("pup-image", "resize", photo, RESULT, "--width=2048", "--enlarge=true").code == 0
    assert node.made() == "JPEG 2048x968"


def test_a_small_jpeg_is_not_enlarged_by_its_decoder(node: Node) -> None:
    photo = node.give("image.jpg", PHOTO.read_bytes())
    assert node.run("pup-image", "resize", photo, RESULT, "--width=60").code == 0
    small = node.give("small.jpg", node.output())
    assert node.run("pup-image", "resize", small, RESULT, "--width=100").code == 0
    assert node.made() == "JPEG 60x28"


def test_a_picture_is_turned_as_its_orientation_says_and_loses_its_metadata(node: Node) -> None:
    photo = node.give("image.jpg", turned(PHOTO.read_bytes(), orientation=6))
    assert node.run("pup-image", "resize", photo, RESULT, "--height=200").code == 0
    assert node.made() == "JPEG 95x200"
    assert b"Exif" not in node.output()


def test_the_same_picture_gives_the_same_bytes(node: Node) -> None:
    photo = node.give("image.jpg", PHOTO.read_bytes())
    assert node.run("pup-image", "resize", photo, RESULT, "--format=png").code == 0
    first = node.output()
    assert node.run("pup-image", "resize", photo, RESULT, "--format=png").code == 0
    assert node.output() == first


def test_a_sheet_puts_pictures_side_by_side(node: Node) -> None:
    photo = node.give("image.jpg", PHOTO.read_bytes())
    assert node.run("pup-image", "resize", photo, RESULT, "--width=100").code == 0
    small = node.give("small.jpg", node.output())
    end = node.run("pup-image", "sheet", small, photo, small, RESULT, "--gap=10", "--format=png")
    assert end.code == 0
    assert node.made() == "PNG 1264x504"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"hello\n", id="text"),
        pytest.param(b"", id="nothing"),
        pytest.param(b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', id="svg"),
        pytest.param(b"push graphic-context\nimage over 0,0 0,0 'https://example.com/a'\n", id="mvg"),
        pytest.param(b"%!PS-Adobe-3.0\n%%EOF\n", id="postscript"),
        pytest.param(PHOTO.read_bytes()[:30_000], id="cut short"),
        pytest.param(PHOTO.read_bytes()[:100], id="a head only"),
        pytest.param(bomb(19_000), id="far more pixels than bytes"),
        pytest.param(bomb(60_000), id="more pixels than any picture has"),
    ],
)
def test_what_is_no_whole_picture_is_refused(node: Node, content: bytes) -> None:
    photo = node.give("image.jpg", content)
    end = node.run("pup-image", "resize", photo, RESULT)
    assert end.code == 65
    assert end.log.splitlines()[-1].startswith("pup-image: the ")
    assert not (node.folder / "out/resized").exists()


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("--width=wide", "width must be a whole number"),
        ("--height=0", "height must be at least 1"),
        ("--quality=101", "quality must be at most 100"),
        ("--format=svg", "format must be jpeg, png, webp, gif or tiff"),
        ("--colour=red", "unknown option"),
    ],
)
def test_a_wrong_option_is_named(node: Node, option: str, complaint: str) -> None:
    photo = node.give("image.jpg", PHOTO.read_bytes())
    end = node.run("pup-image", "resize", photo, RESULT, option)
    assert end.code == 64
    assert complaint in end.log


@pytest.mark.parametrize("picture", ["mvg:/etc/passwd", "svg:x", "pdf:x", "https://example.com/a.png", "@/etc/passwd"])
def test_the_image_tool_itself_reads_nothing_else(node: Node, picture: str) -> None:
    end = node.run("convert", picture, "png:/pup/out/resized")
    assert end.code != 0
    assert not (node.folder / "out/resized").exists()
