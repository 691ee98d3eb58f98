import errno
import json
import os
import resource
import socket
import stat
import subprocess
import sys
import textwrap

import pytest

from gpae.errors import UserError, one_line
from gpae.runs import files
from gpae.runs.files import (
    atomic_write,
    clear_disk_errors,
    disk_error,
    ensure_parent,
    read_json,
    read_regular,
    writable_file,
    write_json,
)


def message(caught):
    """What a user is shown: one line that prints."""
    text = str(caught.value)
    assert text.isprintable(), text
    return text


# -- every error of a disk is a line -------------------------------------------------------------------------------

CODES = [
    (errno.ENOSPC, "the disk is full: .*could not be written; what was saved before is intact"),
    (errno.EDQUOT, "the quota of this disk is used up: "),
    (errno.EFBIG, r"files may not be that large here \(ulimit -f\): "),
    (errno.EROFS, "cannot be written: the disk is read-only"),
    (errno.EACCES, "cannot be written: no permission"),
    (errno.EPERM, "cannot be written: not permitted"),
    (errno.ENOENT, "cannot be written: its folder does not exist, or was removed"),
    (errno.ENAMETOOLONG, "cannot be written: the name is too long; choose a shorter one"),
    (errno.EISDIR, "cannot be written: it is a folder"),
    (errno.EIO, "cannot be written: the disk reports an error"),
    (errno.ESTALE, "cannot be written: the network disk has lost it"),
    (errno.EMFILE, "cannot be written: too many files are open"),
    (errno.ENODEV, f"cannot be written: {os.strerror(errno.ENODEV)}"),
]


@pytest.mark.parametrize(("code", "words"), CODES, ids=[errno.errorcode[code] for code, _ in CODES])
def test_every_error_of_a_disk_is_one_line_that_names_the_file(code, words):
    with pytest.raises(UserError, match=words) as caught, clear_disk_errors("some/file.json"):
        raise OSError(code, os.strerror(code))
    assert "some/file.json" in message(caught)


@pytest.mark.parametrize("form", ["Writing [os_error_code='{}']", "FAILED [OS error {}: no words]"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EFBIG, errno.EACCES])
def test_errors_of_disks_in_tensorstores_words_are_the_same_line(form, code):
    said = str(disk_error(ValueError(form.format(code)), "a"))
    assert said == str(disk_error(OSError(code, os.strerror(code)), "a"))


@pytest.mark.parametrize(
    "error", [ValueError("a shape"), KeyError("a"), ConnectionResetError("no disk"), RuntimeError("no [os] error")]
)
def test_what_is_no_error_of_a_disk_stays_what_it_is(error):
    with pytest.raises(type(error)) as caught, clear_disk_errors("a"):
        raise error
    assert caught.value is error


def test_an_error_that_is_clear_already_is_not_named_twice():
    with pytest.raises(UserError, match=r"^No space left on device is a title$"), clear_disk_errors("a"):
        raise UserError("No space left on device is a title")


def test_the_message_of_an_error_is_one_line_whatever_it_is_made_from():
    assert one_line("a\nb\t\x1b[31mred\u2028c\udcff") == r"a b \x1b[31mred c\udcff"
    with pytest.raises(UserError) as caught:
        read_regular("no\nsuch\x1b[2Jfile")
    assert "no such" in message(caught)


@pytest.mark.parametrize("write", [lambda p: atomic_write(p, b"x"), writable_file], ids=["written", "to be written"])
class TestPlacesWhereNoFileCanBe:
    def test_below_a_file(self, tmp_path, write):
        (tmp_path / "a").write_text("mine")
        for below in ("a/b", "a/b/c"):
            with pytest.raises(UserError, match=f"{tmp_path / 'a'} is not a folder") as caught:
                write(tmp_path / below)
            message(caught)
        assert (tmp_path / "a").read_text() == "mine"

    def test_a_folder(self, tmp_path, write):
        for path in (tmp_path, tmp_path / ".", "/"):
            with pytest.raises(UserError, match="is a folder; only a regular file may be there"):
                write(path)

    @pytest.mark.parametrize("name", ["n" * 300, "n" * 253, "ü" * 200])
    def test_a_long_name(self, tmp_path, write, name):
        with pytest.raises(UserError, match="the name is too long; choose a shorter one") as caught:
            write(tmp_path / name)
        assert len(message(caught)) < 600

    def test_a_name_with_a_null_character(self, tmp_path, write):
        with pytest.raises(UserError, match="its name holds a null character"):
            write(tmp_path / "a\0b")

    def test_links_pipes_and_devices(self, tmp_path, write):
        (tmp_path / "mine").write_text("mine")
        (tmp_path / "link").symlink_to("mine")
        (tmp_path / "dangling").symlink_to("absent")
        os.mkfifo(tmp_path / "pipe")
        for name, kind in (("link", "a link, which is not"), ("dangling", "a link"), ("pipe", "a pipe")):
            with pytest.raises(UserError, match=f"{name} is {kind}"):
                write(tmp_path / name)
        with pytest.raises(UserError, match="/dev/null is a device"):
            write("/dev/null")
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
        assert (tmp_path / "mine").read_text() == "mine"
        assert not (tmp_path / "absent").exists()


def test_a_disk_without_permission_is_named():
    """As another user than root, whom nothing is forbidden."""
    script = textwrap.dedent("""
        import os, tempfile
        from gpae.errors import UserError
        from gpae.runs.files import atomic_write, exists, read_regular, writable_file
        with tempfile.TemporaryDirectory() as folder:
            os.makedirs(f"{folder}/inner")
            open(f"{folder}/file", "w").close()
            os.chmod(f"{folder}/file", 0)
            os.chmod(f"{folder}/inner", 0)
            os.chmod(folder, 0o555)
            before = os.geteuid()
            if before == 0:
                os.seteuid(65534)
            for act in (lambda: atomic_write(f"{folder}/new", b""), lambda: writable_file(f"{folder}/a/new"),
                        lambda: read_regular(f"{folder}/file"), lambda: exists(f"{folder}/inner/x")):
                try:
                    act()
                    print("allowed")
                except UserError as error:
                    print(str(error).replace(folder, ""))
            os.seteuid(before)
            os.chmod(folder, 0o700)
            os.chmod(f"{folder}/inner", 0o700)
    """)
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert child.stdout.splitlines() == [
        "/new cannot be written: no permission",
        "/a/new cannot be written: no permission",
        "/file cannot be read: no permission",
        "/inner/x cannot be read: no permission",
    ], child.stderr


def test_a_limit_of_file_sizes_is_named_and_the_old_file_stays(tmp_path):
    atomic_write(tmp_path / "a", b"before")
    script = textwrap.dedent("""
        import resource, sys
        from gpae.errors import UserError
        from gpae.runs.files import atomic_write
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        try:
            atomic_write(sys.argv[1], bytes(1000))
        except UserError as error:
            print(error)
    """)
    child = subprocess.run([sys.executable, "-c", script, tmp_path / "a"], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert "files may not be that large here" in child.stdout
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"before")]


def test_too_many_open_files_are_named(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    (tmp_path / "a").write_text("{}")
    held = os.open(tmp_path, os.O_RDONLY)
    resource.setrlimit(resource.RLIMIT_NOFILE, (held, limits[1]))
    try:
        with pytest.raises(UserError, match="too many files are open"):
            read_json(tmp_path / "a")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        os.close(held)


# -- in one piece, and where nobody else writes --------------------------------------------------------------------


def test_what_a_killed_process_has_left_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "a.tmp").symlink_to("mine")
    atomic_write(tmp_path / "a", b"new")
    (tmp_path / "a.tmp").write_text("half")
    atomic_write(tmp_path / "a", b"newer")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a": "newer", "mine": "mine"}


def test_two_processes_that_write_one_file_do_not_mix(tmp_path, monkeypatch):
    sync = os.fsync

    def other(descriptor):
        monkeypatch.setattr(files.os, "fsync", sync)
        (tmp_path / "a.tmp").unlink()
        (tmp_path / "a.tmp").write_text("half of what the other writes")
        sync(descriptor)

    atomic_write(tmp_path / "a", b"before")
    monkeypatch.setattr(files.os, "fsync", other)
    with pytest.raises(UserError, match="another process writes it as well"):
        atomic_write(tmp_path / "a", b"ours")
    assert (tmp_path / "a").read_bytes() == b"before"
    assert (tmp_path / "a.tmp").read_text() == "half of what the other writes"


def test_a_folder_that_vanishes_is_named(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    sync = os.fsync

    def remove(descriptor):
        sync(descriptor)
        (folder / "a.tmp").unlink()
        folder.rmdir()

    monkeypatch.setattr(files.os, "fsync", remove)
    with pytest.raises(UserError, match="its folder was removed"):
        atomic_write(folder / "a", b"x")
    monkeypatch.undo()
    with pytest.raises(UserError, match="its folder does not exist, or was removed"):
        atomic_write(folder / "a", b"x")


def test_missing_folders_of_an_output_are_made_before_anything_is_computed(tmp_path):
    output = writable_file(tmp_path / "some" / "where" / "x.json")
    assert output.parent.is_dir()
    assert list(output.parent.iterdir()) == []
    output.write_text("mine")
    writable_file(output)
    assert output.read_text() == "mine"
    assert writable_file(tmp_path / "X.JSON", ".json").name == writable_file(tmp_path / "X.JSON").name
    assert writable_file(tmp_path / "x", ".json").suffix == ""
    with pytest.raises(UserError, match=r"x\.gif will be a PNG; name it .*x\.png"):
        writable_file(tmp_path / "x.gif", ".png")
    assert ensure_parent(tmp_path / "p" / "q").parent.is_dir()


def test_numbers_that_json_does_not_know_are_no_users_error(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant") as caught:
        write_json(tmp_path / "a", float("nan"))
    assert not isinstance(caught.value, UserError)


# -- reading -------------------------------------------------------------------------------------------------------


def test_regular_files_alone_are_read(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"GIF89a")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)  # names of sockets are short
        listener.bind("socket")
    assert read_regular(tmp_path / "file") == b"GIF89a"
    for name, kind in {
        "link": "a link, which is not followed",
        "circle": "a link, which is not followed",
        "folder": "a folder",
        "pipe": "a pipe",
        "socket": "a socket",
    }.items():
        with pytest.raises(UserError, match=f"{name} is {kind}; only a regular file may be there"):
            read_regular(tmp_path / name)
    with pytest.raises(UserError, match="/dev/zero is a device"):
        read_regular("/dev/zero")
    with pytest.raises(UserError, match="there is no "):
        read_regular(tmp_path / "absent")
    with pytest.raises(UserError, match="there is no "):
        read_regular(tmp_path / "file" / "below")


def test_a_link_is_read_where_the_user_has_named_it(tmp_path):
    (tmp_path / "file").write_text("[1]")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "zero").symlink_to("/dev/zero")
    assert read_json(tmp_path / "link", follow=True) == [1]
    with pytest.raises(UserError, match="zero is a device"):
        read_json(tmp_path / "zero", follow=True)


def test_files_that_are_too_large_are_not_read(tmp_path):
    with open(tmp_path / "large", "wb") as file:
        file.truncate(1 << 40)  # takes no room on the disk, and would take a terabyte of memory
    with pytest.raises(UserError, match=r"large is larger than 1,073,741,824 bytes"):
        read_json(tmp_path / "large")
    (tmp_path / "small").write_bytes(b"12345")
    assert read_regular(tmp_path / "small", most=5) == b"12345"
    with pytest.raises(UserError, match="larger than 4 bytes"):
        read_regular(tmp_path / "small", most=4)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b'{"a": 1', "Expecting ',' delimiter"),
        ('{"a": "ü"}'.encode("latin-1"), "byte 7 is not UTF-8"),
        (bytes(100), "Expecting value"),
        (b"[" * 200_000, "nested too deeply"),
        (b"1" * 10_000, "digits"),
        (b'{"seed_0": 1, "seed_1": 2, "seed_0": 3}', "the name 'seed_0' stands twice"),
    ],
)
def test_what_is_not_json_is_named(tmp_path, content, words):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.json is damaged: .*{words}") as caught:
        read_json(tmp_path / "a.json")
    message(caught)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_are_accepted(tmp_path, encoding):
    (tmp_path / "a").write_bytes(json.dumps({"Größe": "名"}, ensure_ascii=False).encode(encoding))
    assert read_json(tmp_path / "a") == {"Größe": "名"}
