"""Put on PYTHONPATH, counts what a command and its workers do to files below a folder, and kills at one of them.

`CAMPAIGN_LOG` is the file that operations are written to, one line of fixed length each: its length counts them, over
all processes. `CAMPAIGN_ROOT` is the folder, `CAMPAIGN_AT` the number of the operation to die before (0: none), and
`CAMPAIGN_WHOM` who dies: `self`, the process that was to do it, or `group`.
"""

import builtins
import io
import os
import signal
import sys
import threading

LINE = 200
#: audit events by which of their arguments names the file that comes, goes or changes
_EVENTS = {
    **dict.fromkeys(("os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.utime", "os.truncate"), 0),
    **dict.fromkeys(("os.rename", "os.link", "os.symlink", "shutil.copyfile"), 1),
}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def _place(path, folder):
    """The absolute path of what a call names, by a path, a descriptor, or a path below a descriptor."""
    if isinstance(path, int):
        return os.readlink(f"/proc/self/fd/{path}")
    path = os.fsdecode(path)
    if folder >= 0 and not os.path.isabs(path):
        path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
    return os.path.abspath(path)


def install():
    root, at, whom = (os.environ[f"CAMPAIGN_{name}"] for name in ("ROOT", "AT", "WHOM"))
    log = os.open(os.environ["CAMPAIGN_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    busy = threading.local()

    def count(what, path, folder=-1):
        if getattr(busy, "now", False):
            return
        busy.now = True
        try:
            found = _place(path, folder)
            if not found.startswith(root + os.sep):
                return
            line = f"{os.getpid()} {what} {os.path.relpath(found, root)}".encode()[: LINE - 1]
            os.write(log, line.ljust(LINE - 1) + b"\n")
            if os.lseek(log, 0, os.SEEK_CUR) // LINE == int(at):
                os.killpg(0, signal.SIGKILL) if whom == "group" else os.kill(os.getpid(), signal.SIGKILL)
        except OSError:
            return
        finally:
            busy.now = False

    def heard(event, arguments):
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITES and path is not None:
                count("open", path)
        elif event == "ctypes.dlsym" and arguments[1] == "renameat2":  # looked up once for each call
            count(event, os.path.join(root, "renameat2"))
        elif event in _EVENTS:
            below = arguments[1] if event in ("os.remove", "os.rmdir") else -1
            count(event, arguments[_EVENTS[event]], below if isinstance(below, int) else -1)

    def counted_fsync(fd):
        count("fsync", fd if isinstance(fd, int) else fd.fileno())
        return fsync(fd)

    def opened(*arguments, **options):
        """What stands there now is empty, and gets its content only later."""
        file = plain(*arguments, **options)
        mode = options.get("mode", arguments[1] if len(arguments) > 1 else "r")
        if set(mode) & set("wxa+") and isinstance(file.name, str | os.PathLike):
            count("opened", file.name)
        return file

    fsync, plain = os.fsync, builtins.open
    os.fsync = counted_fsync
    builtins.open = io.open = opened
    sys.addaudithook(heard)


if "CAMPAIGN_LOG" in os.environ and __name__ == "sitecustomize":
    install()
