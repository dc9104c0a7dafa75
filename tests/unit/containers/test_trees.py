"""Folders as tars and back: the same bytes for the same folder, and nothing but plain files and folders."""

import contextlib
import io
import os
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pupload.containers.trees import NotKept, Owner, Room, header, packed, unpack

pytestmark = pytest.mark.unit

MB = 1024**2


def room(size_bytes: int = MB, entries: int = 100) -> Room:
    return Room(size_bytes, entries)


def tar_of(folder: Path, of: Room | None = None, under: str = "") -> bytes:
    return b"".join(packed(folder, of or room(), under=under))


def unpacked(tar: bytes, target: Path, of: Room | None = None, owner: Owner | None = None) -> Path:
    target.mkdir()
    unpack(io.BytesIO(tar), target, of or room(), owner=owner)
    return target


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def a_tree(folder: Path) -> Path:
    (folder / "b" / "deep").mkdir(parents=True)
    (folder / "a").write_text("one")
    (folder / "b" / "deep" / "été").write_bytes(os.urandom(1000))
    (folder / "b" / "empty").touch()
    (folder / "b" / "run").write_text("#!/bin/sh\n")
    (folder / "b" / "run").chmod(0o755)
    return folder


def test_a_folder_comes_back_as_it_was(tmp_path: Path) -> None:
    before = a_tree(tmp_path / "before")
    after = unpacked(tar_of(before), tmp_path / "after")
    assert {p.relative_to(after) for p in after.rglob("*")} == {p.relative_to(before) for p in before.rglob("*")}
    assert (after / "b" / "deep" / "été").read_bytes() == (before / "b" / "deep" / "été").read_bytes()
    assert (after / "b" / "run").stat().st_mode & 0o777 == 0o755
    assert tar_of(after) == tar_of(before)


def test_the_tar_says_neither_who_wrote_nor_when(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    for folder, names in (("one", "abc"), ("two", "cab")):
        for name in names:
            (tmp_path / folder / name).write_text(name)
    os.utime(tmp_path / "two" / "a", (1, 1))
    assert tar_of(tmp_path / "one") == tar_of(tmp_path / "two")


def test_a_folder_that_may_not_be_written_can_still_be_filled(tmp_path: Path) -> None:
    (tmp_path / "one" / "closed").mkdir(parents=True)
    (tmp_path / "one" / "closed" / "file").write_text("x")
    (tmp_path / "one" / "closed").chmod(0o555)
    after = unpacked(tar_of(tmp_path / "one"), tmp_path / "two")
    assert (after / "closed").stat().st_mode & 0o777 == 0o555


def test_a_name_that_is_no_text_is_kept(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    name = os.fsdecode(b"\xff\xfe")
    (tmp_path / "one" / name).write_text("x")
    assert names_in(unpacked(tar_of(tmp_path / "one"), tmp_path / "two")) == [name]


def _symlink(path: Path) -> None:
    path.symlink_to("/etc/shadow")


def _link_to_a_folder(path: Path) -> None:
    path.symlink_to("/etc")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _hard_link(path: Path) -> None:
    outside = path.parent.parent / "outside"
    outside.write_text("x")
    path.hardlink_to(outside)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (_symlink, "a symbolic link"),
        (_link_to_a_folder, "a symbolic link"),
        (_fifo, "a named pipe"),
        (_socket, "a socket"),
        (_hard_link, "several hard links"),
    ],
)
def test_what_is_no_plain_file_is_not_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    make(tmp_path / "folder" / "it")
    with pytest.raises(NotKept, match=what):
        tar_of(tmp_path / "folder")


def test_too_much_is_not_packed(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 11)
    with pytest.raises(NotKept, match="too large"):
        tar_of(tmp_path, room(size_bytes=10))
    for n in range(5):
        (tmp_path / str(n)).touch()
    with pytest.raises(NotKept, match="too many"):
        tar_of(tmp_path, room(entries=5))


def test_a_hole_counts_as_what_it_claims(tmp_path: Path) -> None:
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(NotKept, match="too large"):
        tar_of(tmp_path)


def test_a_bottomless_folder_is_not_packed(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(70):
        deep /= "d"
        deep.mkdir()
    with pytest.raises(NotKept, match="too deep"):
        tar_of(tmp_path)


def test_every_descriptor_is_closed_again(tmp_path: Path) -> None:
    before = len(names_in(Path("/proc/self/fd")))
    tree = a_tree(tmp_path / "tree")
    (tree / "z").symlink_to("a")
    with pytest.raises(NotKept):
        tar_of(tree)
    assert len(names_in(Path("/proc/self/fd"))) == before


def a_tar(*entries: tarfile.TarInfo) -> bytes:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as file:
        for entry in entries:
            file.addfile(entry, io.BytesIO(b"x" * entry.size))
    return tar.getvalue()


def an_entry(name: str, kind: bytes = tarfile.REGTYPE, **more: object) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type = kind
    for member, value in more.items():
        setattr(entry, member, value)
    return entry


@pytest.mark.parametrize(
    "entry",
    [
        an_entry("../out"),
        an_entry("/etc/cron.d/x"),
        an_entry("a/../../x"),
        an_entry("./x"),
        an_entry("link", tarfile.SYMTYPE, linkname="/etc/passwd"),
        an_entry("hard", tarfile.LNKTYPE, linkname="a"),
        an_entry("device", tarfile.CHRTYPE, devmajor=1, devminor=3),
        an_entry("block", tarfile.BLKTYPE, devmajor=8),
        an_entry("pipe", tarfile.FIFOTYPE),
        an_entry("sparse", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"}),
        an_entry("missing/parent"),
        an_entry("n" * 300),
        an_entry("/".join("d" * 80)),
    ],
    ids=lambda entry: entry.name[:20],
)
def test_a_tar_that_says_anything_else_is_not_unpacked(tmp_path: Path, entry: tarfile.TarInfo) -> None:
    with pytest.raises(NotKept):
        unpacked(a_tar(entry), tmp_path / "in")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_two_entries_of_one_name_are_not_unpacked(tmp_path: Path) -> None:
    with pytest.raises(NotKept, match="out of place"):
        unpacked(a_tar(an_entry("a"), an_entry("a")), tmp_path / "in")


def test_a_tar_of_too_much_is_not_unpacked(tmp_path: Path) -> None:
    with pytest.raises(NotKept, match="too large"):
        unpacked(header("a", folder=False, mode=0o600, size_bytes=1 << 40), tmp_path / "one")
    with pytest.raises(NotKept, match="too many"):
        unpacked(a_tar(*(an_entry(str(n)) for n in range(6))), tmp_path / "two", room(entries=5))


def test_a_tar_cut_short_is_not_unpacked(tmp_path: Path) -> None:
    with pytest.raises(NotKept, match="no tar that can be read"):
        unpacked(header("a", folder=False, mode=0o600, size_bytes=1000) + b"x" * 100, tmp_path / "in")


def test_no_bit_beyond_the_permissions_is_taken_over(tmp_path: Path) -> None:
    after = unpacked(a_tar(an_entry("a", mode=0o6755)), tmp_path / "in")
    assert (after / "a").stat().st_mode & 0o7777 == 0o755


def test_only_what_lies_below_its_name_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a").write_text("x")
    stream = header("session", folder=True, mode=0o700) + tar_of(tmp_path / "one", under="session/")
    (tmp_path / "two").mkdir()
    unpack(io.BytesIO(stream), tmp_path / "two", room(), under="session/")
    assert names_in(tmp_path / "two") == ["a"]
    with pytest.raises(NotKept, match="strange place"):
        unpack(io.BytesIO(stream), tmp_path / "two", room(), under="state/")


@given(st.binary(max_size=2048))
def test_bytes_of_any_kind_are_a_tar_or_refused(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    target = tmp_path_factory.mktemp("noise")
    with contextlib.suppress(NotKept):
        unpack(io.BytesIO(noise), target, room())
