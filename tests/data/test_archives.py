"""Archives as they should be, and as someone with bad intentions would make them."""

import gzip
import hashlib
import io
import os
import random
import tarfile
import zipfile
from pathlib import Path

import pytest

from edgecnn.data.archives import extract
from edgecnn.errors import DataError

FILES = {"digits/train.bin": os.urandom(150_000), "digits/test.bin": os.urandom(1000), "README": b"not wanted"}
MEMBERS = {name: hashlib.sha256(FILES[name]).hexdigest() for name in ("digits/test.bin", "digits/train.bin")}


def tar_gz(path: Path, entries: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for info, contents in entries:
            info.size = len(contents) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(contents))
    return path


def entry(name: str, contents: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, contents


def make_archive(folder: Path, kind: str, files: dict[str, bytes] = FILES) -> Path:
    path = folder / f"digits.{kind}"
    if kind == "tar.gz":
        return tar_gz(path, [entry(name, contents) for name, contents in files.items()])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, contents in files.items():
            zipped.writestr(name, contents)
    return path


def files_under(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def refusal(archive: Path, folder: Path, **options: int) -> str:
    """The message of an archive that is refused: it names the archive and leaves nothing half-written."""
    with pytest.raises(DataError) as fault:
        extract(archive, folder / "out", members=MEMBERS, **options)
    for name in files_under(folder / "out"):  # what is there was verified
        assert hashlib.sha256((folder / "out" / name).read_bytes()).hexdigest() == MEMBERS[name]
    message = str(fault.value)
    assert str(archive) in message
    assert "remove the archive, and it is downloaded again" in message
    return message


both_kinds = pytest.mark.parametrize("kind", ["tar.gz", "zip"])


@both_kinds
def test_the_members_asked_for_come_out_and_no_others(tmp_path: Path, kind: str) -> None:
    paths = extract(make_archive(tmp_path, kind), tmp_path / "out", members=MEMBERS)
    assert paths == [tmp_path / "out" / name for name in MEMBERS]
    assert [path.read_bytes() for path in paths] == [FILES[name] for name in MEMBERS]
    assert files_under(tmp_path / "out") == set(MEMBERS)


def test_names_that_begin_with_a_dot_are_the_same_names(tmp_path: Path) -> None:
    archive = tar_gz(tmp_path / "a.tgz", [entry(f"./{name}", contents) for name, contents in FILES.items()])
    extract(archive, tmp_path / "out", members=MEMBERS)
    assert files_under(tmp_path / "out") == set(MEMBERS)


@both_kinds
def test_a_missing_member_is_named(tmp_path: Path, kind: str) -> None:
    archive = make_archive(tmp_path, kind, {"digits/test.bin": FILES["digits/test.bin"]})
    assert "the archive has no digits/train.bin" in refusal(archive, tmp_path)


@both_kinds
def test_an_altered_member_is_named_with_both_hashes(tmp_path: Path, kind: str) -> None:
    archive = make_archive(tmp_path, kind, {**FILES, "digits/test.bin": b"altered"})
    message = refusal(archive, tmp_path)
    assert f"{archive}: digits/test.bin: the contents were altered" in message
    assert MEMBERS["digits/test.bin"] in message
    assert hashlib.sha256(b"altered").hexdigest() in message
    assert not (tmp_path / "out" / "digits" / "test.bin").exists()


@both_kinds
def test_an_altered_member_leaves_the_good_file_that_was_there(tmp_path: Path, kind: str) -> None:
    extract(make_archive(tmp_path, kind), tmp_path / "out", members=MEMBERS)
    refusal(make_archive(tmp_path, kind, {**FILES, "digits/test.bin": b"altered"}), tmp_path)
    assert (tmp_path / "out" / "digits" / "test.bin").read_bytes() == FILES["digits/test.bin"]


@pytest.mark.parametrize("name", ["../evil", "digits/../../evil", "/etc/evil"])
def test_no_one_can_ask_for_a_file_outside_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="leads out of the folder"):
        extract(make_archive(tmp_path, "zip"), tmp_path / "out", members={name: MEMBERS["digits/test.bin"]})


@both_kinds
def test_members_that_lead_out_of_the_folder_stay_in_the_archive(tmp_path: Path, kind: str) -> None:
    evil = {"../evil": b"1", "../../evil": b"2", str(tmp_path / "evil"): b"3"}
    (tmp_path / "in").mkdir()
    extract(make_archive(tmp_path / "in", kind, {**evil, **FILES}), tmp_path / "out", members=MEMBERS)
    assert files_under(tmp_path) == {f"in/digits.{kind}", *(f"out/{name}" for name in MEMBERS)}


@pytest.mark.parametrize(
    ("kind", "linkname"),
    [
        (tarfile.SYMTYPE, "/etc/hostname"),
        (tarfile.SYMTYPE, "train.bin"),
        (tarfile.LNKTYPE, "digits/train.bin"),
        (tarfile.CHRTYPE, ""),
        (tarfile.BLKTYPE, ""),
        (tarfile.FIFOTYPE, ""),
        (tarfile.DIRTYPE, ""),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes, linkname: str) -> None:
    train = entry("digits/train.bin", FILES["digits/train.bin"])
    odd = entry("digits/test.bin", type=kind, linkname=linkname, devmajor=1, devminor=5)
    archive = tar_gz(tmp_path / "a.tar.gz", [train, odd])
    assert "digits/test.bin is no regular file" in refusal(archive, tmp_path)
    assert not os.path.lexists(tmp_path / "out" / "digits" / "test.bin")


def test_a_linked_folder_in_a_tar_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = entry("digits", type=tarfile.SYMTYPE, linkname=str(tmp_path / "elsewhere"))
    archive = tar_gz(tmp_path / "a.tar.gz", [link, *(entry(name, FILES[name]) for name in FILES)])
    extract(archive, tmp_path / "out", members=MEMBERS)
    assert files_under(tmp_path / "elsewhere") == set()
    assert not (tmp_path / "out" / "digits").is_symlink()


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    archive = make_archive(tmp_path, "zip", {"README": b""})
    with zipfile.ZipFile(archive, "a") as zipped:
        link = zipfile.ZipInfo("digits/test.bin")
        link.external_attr = 0o120777 << 16
        zipped.writestr(link, "/etc/hostname")
    assert "digits/test.bin is no regular file" in refusal(archive, tmp_path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_of_packing_are_refused(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as zipped:
        zipped.writestr("digits/test.bin", FILES["digits/test.bin"])
    message = refusal(tmp_path / "a.zip", tmp_path)
    assert "digits/test.bin is encrypted, or packed by another method than deflate" in message


@both_kinds
def test_a_bomb_is_not_unpacked(tmp_path: Path, kind: str) -> None:
    archive = make_archive(tmp_path, kind, {"digits/test.bin": bytes(50_000_000)})
    assert archive.stat().st_size < 100_000
    message = refusal(archive, tmp_path, max_bytes=1_000_000)
    assert "unpacks to more than the 1.00 MB that are allowed" in message
    assert files_under(tmp_path / "out") == set()


def test_a_bomb_before_the_members_of_a_tar_is_not_unpacked(tmp_path: Path) -> None:
    archive = make_archive(tmp_path, "tar.gz", {"zeros": bytes(50_000_000), **FILES})
    assert "unpacks to more than" in refusal(archive, tmp_path, max_bytes=1_000_000)


def test_a_bomb_in_a_header_of_a_tar_is_not_unpacked(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("digits/test.bin")
        info.pax_headers = {"comment": "x" * 50_000_000}
        tar.addfile(info)
    assert "unpacks to more than" in refusal(tmp_path / "a.tar.gz", tmp_path, max_bytes=1_000_000)


def test_many_members_of_a_zip_count_together(tmp_path: Path) -> None:
    archive = make_archive(tmp_path, "zip")
    assert "unpacks to more than the 150.5 kB" in refusal(archive, tmp_path, max_bytes=150_500)
    assert len(extract(archive, tmp_path / "out", members=MEMBERS, max_bytes=151_000)) == 2


@both_kinds
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_a_truncated_archive_is_damaged(tmp_path: Path, kind: str, share: float) -> None:
    whole = make_archive(tmp_path, kind).read_bytes()
    (tmp_path / "cut").write_bytes(whole[: int(share * len(whole))])
    assert "the archive is damaged" in refusal(tmp_path / "cut", tmp_path)


@both_kinds
def test_archives_with_altered_bytes_give_the_files_or_an_error(tmp_path: Path, kind: str) -> None:
    """Whatever byte is changed: the files as they were, or a DataError."""
    small = {name: contents[:300] for name, contents in FILES.items()}
    members = {name: hashlib.sha256(small[name]).hexdigest() for name in MEMBERS}
    whole = make_archive(tmp_path, kind, small).read_bytes()
    draw = random.Random(0)
    refused = 0
    for _ in range(200):
        altered = bytearray(whole)
        altered[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        (tmp_path / "altered").write_bytes(altered)
        try:
            paths = extract(tmp_path / "altered", tmp_path / "out", members=members)
            assert [path.read_bytes() for path in paths] == [small[name] for name in members]
        except DataError:
            refused += 1
    assert refused > 40


def test_tars_with_altered_headers_give_the_files_or_an_error(tmp_path: Path) -> None:
    small = {name: contents[:300] for name, contents in FILES.items()}
    members = {name: hashlib.sha256(small[name]).hexdigest() for name in MEMBERS}
    whole = gzip.decompress(make_archive(tmp_path, "tar.gz", small).read_bytes())[:5000]
    draw = random.Random(0)
    refused = 0
    for _ in range(200):
        altered = bytearray(whole)
        altered[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        (tmp_path / "altered").write_bytes(gzip.compress(bytes(altered), 1))
        try:
            paths = extract(tmp_path / "altered", tmp_path / "out", members=members)
            assert [path.read_bytes() for path in paths] == [small[name] for name in members]
        except DataError:
            refused += 1
    assert refused > 40


@pytest.mark.parametrize("contents", [b"", b"<html>Please log in</html>", b"\x1f", b"BZh9 and so on"])
def test_what_is_no_archive_is_told(tmp_path: Path, contents: bytes) -> None:
    (tmp_path / "page").write_bytes(contents)
    assert "neither a .tar.gz nor a .zip file" in refusal(tmp_path / "page", tmp_path)


def test_a_missing_archive_is_told(tmp_path: Path) -> None:
    assert "the archive is missing" in refusal(tmp_path / "none.zip", tmp_path)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="the archive cannot be unpacked") as fault:
        extract(make_archive(tmp_path, "zip"), tmp_path / "out", members=MEMBERS)
    assert str(tmp_path / "out") in str(fault.value)
    assert "choose a data folder that can be written" in str(fault.value)
