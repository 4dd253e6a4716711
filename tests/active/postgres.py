"""A PostgreSQL server of our own for tests: in a temporary folder, on a Unix socket, as no root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path


def find_binary(name: str) -> str | None:
    """Path of a program of the server; Debian keeps them out of the way."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(places[-1]) if places else None)


class PostgresServer:
    """Started by `start`, stopped without mercy by `stop`, and both again as often as wanted."""

    def __init__(self) -> None:
        # Not pytest's tmp_path: sockets have short names, and the server's user must get there.
        self.home = Path(tempfile.mkdtemp(prefix="pg"))
        self.user = "postgres" if self._exists("postgres") else "nobody"
        self._prefix = ["setpriv", "--reuid", self.user, "--regid",
                        str(pwd.getpwnam(self.user).pw_gid), "--clear-groups"]
        if os.getuid() != 0:
            self.user, self._prefix = pwd.getpwuid(os.getuid()).pw_name, []
        else:
            shutil.chown(self.home, self.user)
        self.home.chmod(0o755)
        self._run("initdb", "-D", f"{self.home}/data", "-A", "trust", "--no-sync", "--no-locale",
                  "-E", "UTF8", "-U", "group")
        self.start()

    @staticmethod
    def _exists(user: str) -> bool:
        try:
            return bool(pwd.getpwnam(user))
        except KeyError:
            return False

    @property
    def address(self) -> str:
        return f"postgresql://group@/postgres?host={self.home}"

    def _run(self, name: str, *words: str) -> None:
        program = find_binary(name)
        assert program is not None
        # The server keeps what it inherits open: no pipes of ours.
        with open(self.home.parent / f"{self.home.name}.out", "ab") as out:
            subprocess.run([*self._prefix, program, *words], cwd="/", stdout=out, stderr=out,
                           stdin=subprocess.DEVNULL, check=True, timeout=60)

    def start(self) -> None:
        settings = f"-k {self.home} -c listen_addresses='' -c max_connections=60"
        self._run("pg_ctl", "-D", f"{self.home}/data", "-w", "-l", f"{self.home}/log",
                  "-o", settings, "start")

    def stop(self, how: str = "immediate") -> None:
        self._run("pg_ctl", "-D", f"{self.home}/data", "-w", "-m", how, "stop")

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)
        Path(f"{self.home}.out").unlink(missing_ok=True)


def why_not() -> str | None:
    """Why there can be no server here."""
    if find_binary("initdb") is None or find_binary("pg_ctl") is None:
        return "needs PostgreSQL's initdb (Debian: apt install postgresql)"
    try:
        import ase_db_backends.postgresql  # noqa: F401
    except ImportError:
        return "needs ase-db-backends"
    if os.getuid() == 0 and shutil.which("setpriv") is None:
        return "PostgreSQL does not run as root, and setpriv is not here"
    return None
