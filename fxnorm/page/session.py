"""One session of a user: its files, the table of its tracks and its mixes; kept in a folder, so that a server that is
started again has them."""

import contextlib
import logging
import secrets
import shutil
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from pydantic import BaseModel, Field

from fxnorm.constants import SAMPLE_RATE
from fxnorm.errors import AudioError, DatasetError, FxnormError
from fxnorm.io.files import write_json
from fxnorm.mixing.reference import Reference
from fxnorm.page import archives, labels, making, rows
from fxnorm.page.files import Facts, SessionFile, kind_of
from fxnorm.page.jobs import Cancelled, Job, Queue
from fxnorm.page.limits import Limits
from fxnorm.page.making import Engine, Made, Request
from fxnorm.page.refusal import Problem, Refused
from fxnorm.sessions import table as tables
from fxnorm.sessions.proposal import propose
from fxnorm.sessions.recordings import Recording
from fxnorm.sessions.table import Table

STATE_FILE = "session.json"
_FILES, _MIXES = "files", "mixes"
_TABLE = "table"  # what errors call it
_LONGEST_NAME = 200
_DEFECT = "a defect of the page; the server's log says more"
_RESTARTED = "the server was started again while this was made; mix once more"

_logger = logging.getLogger(__name__)


class Mix(BaseModel):
    """A mix that was asked for.

    Attributes:
        id: what requests call it.
        name: what people call it.
        asked: when.
        state: queued, running, done, failed or cancelled.
        problem: why it failed.
        request: what was asked for.
        table: of the tracks, as it was then.
        made: what came of it.
    """

    id: str
    name: str
    asked: str
    state: str = "queued"
    problem: str | None = None
    request: Request
    table: Table
    made: Made | None = None


class _Stored(BaseModel):
    """What is kept of a session."""

    id: str
    owner: str
    name: str
    used: datetime
    numbers: int
    files: list[SessionFile] = Field(default_factory=list)
    table: Table | None = None
    problems: list[tuple[str, str | None]] = Field(default_factory=list)
    mixes: list[Mix] = Field(default_factory=list)


class Session:
    """A session; all of its methods may be called from any thread.

    Args:
        folder: of the session, for nothing else.
        stored: its content.
        engine: what listens and mixes.
        limits: of what it may take up.
        queues: of listening, and of mixing.
    """

    def __init__(self, folder: Path, stored: _Stored, engine: Engine, limits: Limits, queues: tuple[Queue, Queue]):
        self.revision = 1
        self._folder = folder
        self._stored = stored
        self._engine = engine
        self._limits = limits
        self._listening, self._mixing = queues
        self._lock = threading.RLock()
        self._receiving: set[str] = set()
        self._job: Job | None = None
        self._jobs: dict[str, Job] = {}
        self._removed = False
        for name in (_FILES, _MIXES):
            (folder / name).mkdir(parents=True, exist_ok=True)

    @classmethod
    def new(
        cls, folder: Path, owner: str, name: str, engine: Engine, limits: Limits, queues: tuple[Queue, Queue]
    ) -> "Session":
        """An empty one.

        Raises:
            Refused: no name.
        """
        stored = _Stored(id=folder.name, owner=owner, name=_checked(name), used=datetime.now(UTC), numbers=0)
        made = cls(folder, stored, engine, limits, queues)
        made._keep()
        return made

    @classmethod
    def open(cls, folder: Path, engine: Engine, limits: Limits, queues: tuple[Queue, Queue]) -> "Session":
        """One that was kept.

        Raises:
            OSError, ValueError: its state cannot be read.
        """
        stored = _Stored.model_validate_json((folder / STATE_FILE).read_bytes())
        for mix in stored.mixes:
            if mix.state in ("queued", "running"):
                mix.state, mix.problem = "failed", _RESTARTED
        for file in stored.files:
            path = folder / _FILES / file.stored_name
            file.received = path.stat().st_size if path.is_file() else 0
        return cls(folder, stored, engine, limits, queues)

    @property
    def id(self) -> str:
        """What requests call it."""
        return self._stored.id

    @property
    def owner(self) -> str:
        """The user who made it."""
        return self._stored.owner

    @property
    def name(self) -> str:
        """What people call it."""
        return self._stored.name

    @property
    def is_removed(self) -> bool:
        """Whether it is gone."""
        return self._removed

    @property
    def expires(self) -> datetime:
        """When it is removed, if nobody uses it until then."""
        return self._stored.used + timedelta(hours=self._limits.keep_hours)

    @property
    def is_busy(self) -> bool:
        """Whether something is being made for it."""
        return self._job is not None or bool(self._jobs)

    def use(self) -> None:
        """Somebody uses it now."""
        self._stored.used = datetime.now(UTC)

    def rename(self, name: str) -> None:
        """Call it otherwise.

        Raises:
            Refused: no name.
        """
        with self._changing():
            self._stored.name = _checked(name)

    def remove(self) -> None:
        """Remove it with all of its files; what is being made ends."""
        with self._lock:
            self._removed = True
            jobs = [*self._jobs.values(), *([self._job] if self._job else [])]
        for job in jobs:
            job.cancel()
            if not (self._mixing.remove(job) or self._listening.remove(job)):
                job.wait(60.0)
        shutil.rmtree(self._folder, ignore_errors=True)

    def as_json(self) -> dict[str, Any]:
        """All that the page shows of it."""
        with self._lock:
            stored, job = self._stored, self._job
            ids = {file.name: file.id for file in stored.files}
            listening = None
            if job is not None:
                state = "running" if job.is_running else "queued"
                listening = {"state": state, "position": job.position, "fraction": round(job.fraction, 3)}
            return {
                "id": stored.id,
                "name": stored.name,
                "revision": self.revision,
                "expires": self.expires.isoformat(timespec="seconds"),
                "files": [file.as_json() for file in stored.files],
                "listening": listening,
                "problems": [Problem(text, file).as_json() for text, file in stored.problems],
                "table": rows.as_json(stored.table, ids),
                "mixes": [self._mix_json(mix) for mix in stored.mixes],
            }

    def waveforms(self) -> dict[str, Any]:
        """Those of the tracks that were listened to, by the files' ids."""
        with self._lock:
            return {file.id: {"peaks": file.facts.waveform} for file in self._stored.files if file.facts is not None}

    # files

    def add_file(self, name: str, size: int, is_reference: bool) -> tuple[SessionFile, bool]:
        """Announce a file; one that is here in part goes on, and one of the same name and another size is replaced.

        Returns:
            the file, and whether it is new.

        Raises:
            Refused: it is too large, or nothing that the page has a use for.
        """
        name = labels.label(name)
        kind = kind_of(name, is_reference, self._limits)
        if not 1 <= size <= self._limits.file_bytes:
            found = "no bytes" if size < 1 else f"{size} bytes"
            raise Refused(413, f"{name}: {found}, expected 1 to {self._limits.file_bytes}")
        with self._changing():
            same = next((file for file in self._stored.files if file.name == name), None)
            if same is not None and (same.bytes, same.kind) == (size, kind):
                return same, False
            if same is not None:
                if self._job is not None:
                    raise Refused(409, f"{name}: the tracks are being listened to", same.id)
                self._drop(same)
            self._refuse_more(1, size)
            file = SessionFile(id=self._next("f"), name=name, bytes=size, kind=kind)
            (self._folder / _FILES / file.stored_name).touch()
            self._stored.files.append(file)
            return file, True

    @contextlib.contextmanager
    def receiving(self, file_id: str, offset: int) -> Iterator["Receiver"]:
        """Takes a piece of a file; what was written counts, even if the rest does not arrive.

        Raises:
            Refused: there is no such file, another request writes it, or the piece does not begin where the last ended.
        """
        with self._lock:
            file = self._file(file_id)
            if file_id in self._receiving:
                raise Refused(409, f"{file.name}: another request uploads it", file_id, received=file.received)
            if offset != file.received:
                message = f"{file.name}: expected the piece from byte {file.received} on, found that from {offset} on"
                raise Refused(409, message, file_id, received=file.received)
            self._receiving.add(file_id)
        path = self._folder / _FILES / file.stored_name
        try:
            with open(path, "ab") as opened:
                yield Receiver(opened, file)
        finally:
            with self._lock:
                self._receiving.discard(file_id)
                if path.exists():
                    file.received = path.stat().st_size
                self.touch()
                if file.is_whole:
                    self._keep()

    def unpack(self, file_id: str) -> None:
        """If a file is a whole archive, put its files in its place.

        Raises:
            Refused: it cannot be unpacked; the archive is gone then.
        """
        with self._lock:
            archive = self._file(file_id)
            if archive.kind != "zip" or not archive.is_whole:
                return
        added: list[SessionFile] = []

        def place_of(name: str, size: int) -> Path | None:
            try:
                kind = kind_of(name, False, self._limits)
            except Refused:
                return None
            if kind == "zip" or size == 0:
                return None
            if size > self._limits.file_bytes:
                raise Refused(413, f"{name}: {size} bytes, expected at most {self._limits.file_bytes}")
            with self._lock:
                added.append(SessionFile(id=self._next("f"), name=name, bytes=size, kind=kind, received=size))
            return self._folder / _FILES / added[-1].stored_name

        path = self._folder / _FILES / archive.stored_name
        held = sum(file.bytes for file in self._stored.files) - archive.bytes
        try:
            archives.unpack(path, self._limits.files, self._limits.session_bytes - held, place_of)
            with self._changing():
                names = {file.name for file in added}
                for file in [file for file in self._stored.files if file.name in names or file is archive]:
                    self._drop(file)
                self._refuse_more(len(added), sum(file.bytes for file in added))
                self._stored.files += added
        except (Refused, OSError) as error:  # the system's: a full disk
            for file in added:
                (self._folder / _FILES / file.stored_name).unlink(missing_ok=True)
            with self._changing(), contextlib.suppress(Refused):
                self._drop(self._file(file_id))
            if isinstance(error, Refused):
                raise Refused(error.status, f"{archive.name}: {error}") from error
            raise

    def remove_file(self, file_id: str) -> None:
        """Remove a file, and its row of the table.

        Raises:
            Refused: there is no such file, or its session is being listened to.
        """
        with self._changing():
            file = self._file(file_id)
            if self._job is not None:
                raise Refused(409, f"{file.name}: the tracks are being listened to", file_id)
            self._drop(file)

    # the table

    def listen(self) -> None:
        """Have the tracks sorted; rows that a person decided stay.

        Raises:
            Refused: a file is not here as a whole, there is none, or this is being done.
        """
        with self._changing():
            if self._job is not None:
                raise Refused(409, "the tracks are being listened to")
            for file in self._stored.files:
                if not file.is_whole:
                    raise Refused(409, f"{file.name}: {file.received} of {file.bytes} bytes are here", file.id)
            if not self._tracks():
                raise Refused(409, "expected tracks, found none")
            self._job = Job(self._listen, self.touch)
            try:
                self._listening.add(self._job)
            except Refused:
                self._job = None
                raise

    def change_table(self, content: dict[str, Any]) -> None:
        """Take another table.

        Args:
            content: ``balance`` and ``tracks``, as in ``tracks.yaml``, with the files' ids for their names.

        Raises:
            Refused: it does not fit, with a problem for each row that does not.
        """
        with self._changing():
            if self._stored.table is None:
                raise Refused(409, "the tracks are not sorted yet")
            names = {file.id: file.name for file in self._tracks()}
            known = {track.file: track for track in self._stored.table.tracks}
            found, problems = [], []
            for row in content["tracks"]:
                if row["file"] not in names or (row["pair"] is not None and row["pair"] not in names):
                    problems.append(Problem("expected the ids of two tracks of this session"))
                    continue
                named = row | {"file": names[row["file"]], "pair": names.get(row["pair"])}
                found.append(rows.decided(named, known.get(named["file"])))
            if problems:
                raise Refused(422, problems[0].text, problems=problems)
            whole = {"mixture": self._stored.table.mixture, "balance": content["balance"], "tracks": found}
            try:
                self._stored.table = tables.parse(whole, _TABLE)
                self._stored.problems = []  # which were decided so
            except DatasetError as error:
                problems = self._located(str(error).splitlines())
                raise Refused(422, problems[0].text, problems[0].file, problems) from error

    def _listen(self, job: Job) -> None:
        """Sort the tracks, in the thread that listens."""
        with self._lock:
            files = [file for file in self._tracks() if file.is_whole]
            table_file = next((file for file in self._stored.files if file.kind == "table"), None)

        def recording(file: SessionFile) -> Recording:
            def noted(facts: Facts) -> None:
                file.facts, file.problem = facts, None

            return file.recording(self._folder / _FILES, self._limits, noted)

        def progress(done: int, total: int) -> None:
            job.report("listening", done / total)

        table, given, problems = None, None, list[Problem]()
        try:
            job.report("listening", 0.0)
            recordings = {file.name: recording(file) for file in files}
            proposal = propose(recordings, self._engine.statistics, progress)
            table, problems = proposal.table, self._located(proposal.problems)
            if table_file is not None:
                given = self._given(table_file, recordings)
        except Cancelled:
            self._job = None
            return
        except FxnormError as error:
            problems += self._located(str(error).splitlines())
        except Exception:
            _logger.exception("Listening to a session failed")
            problems = [Problem(_DEFECT)]
        with self._changing():
            self._job = None
            before = self._stored.table  # with what was changed meanwhile
            if table is not None and given is not None and table_file is not None:
                table = rows.with_given(given, table)
                self._drop(table_file)  # from now on the rows are a person's
            elif table is not None and before is not None:
                table = rows.with_hand(table, before)
            self._stored.table = table
            # what cannot be read is told beside its name, and left out; a person decides the rest
            unread = {file.id: file for file in self._tracks() if file.facts is None}
            for problem in problems:
                if problem.file in unread:
                    unread[problem.file].problem = problem.text
            self._stored.problems = [(problem.text, problem.file) for problem in problems if problem.file not in unread]

    def _given(self, file: SessionFile, recordings: Mapping[str, Recording]) -> Table:
        """The table that came with the session.

        Raises:
            DatasetError: it does not fit; a line each, which names it by its label.
        """
        path = self._folder / _FILES / file.stored_name
        try:
            table = tables.read(path)
        except DatasetError as error:
            lines = [line.removeprefix(f"{path}: ") for line in str(error).splitlines()]
        else:
            lines = tables.missing_from(table, recordings)
            if table.folder != ".":
                lines.append("folder: expected the session's own")
        if lines:
            raise DatasetError("\n".join(f"{file.name}: {line}" for line in lines))
        return table

    # mixes

    def mix(self, request: Request) -> Mix:
        """Ask for a mix.

        Raises:
            Refused: the tracks are not sorted, there are too many mixes, the reference is none, or too many wait.
        """
        with self._changing():
            table = self._stored.table
            if table is None or self._job is not None:
                raise Refused(409, "the tracks are not sorted yet")
            if not table.used:
                raise Refused(409, "all tracks are left out; expected one that is mixed")
            if len(self._stored.mixes) >= self._limits.mixes:
                raise Refused(409, f"{len(self._stored.mixes)} mixes are here, the most that there may be; remove some")
            unread = {file.name: file for file in self._stored.files if file.problem is not None}
            for track in table.used:
                if track.file in unread:
                    file = unread[track.file]
                    raise Refused(409, f"{file.name}: cannot be read; leave it out or replace it", file.id)
            if request.reference is not None and self._file(request.reference).kind != "reference":
                raise Refused(422, "expected a reference song", request.reference)
            self._engine.check(request)
            number = self._next("m")
            mix = Mix(
                id=number,
                name=f"Mix {1 + len(self._stored.mixes)}",
                asked=datetime.now(UTC).isoformat(timespec="seconds"),
                request=request,
                table=table,
            )
            job = Job(lambda job: self._make(mix, job), self.touch)
            self._mixing.add(job)
            self._jobs[mix.id] = job
            self._stored.mixes.append(mix)
            return mix

    def cancel(self, mix_id: str) -> None:
        """Do not make a mix, or no further.

        Raises:
            Refused: there is no such mix.
        """
        with self._changing():
            mix = self._mix(mix_id)
            job = self._jobs.get(mix_id)
            if job is None:
                return
            job.cancel()
            if self._mixing.remove(job):
                del self._jobs[mix_id]
                mix.state = "cancelled"

    def remove_mix(self, mix_id: str) -> None:
        """Remove a mix and its files.

        Raises:
            Refused: there is no such mix, or it is being made.
        """
        with self._changing():
            mix = self._mix(mix_id)
            if mix_id in self._jobs:
                raise Refused(409, f"{mix.name}: is being made; cancel it first")
            self._stored.mixes.remove(mix)
            shutil.rmtree(self._mix_folder(mix_id), ignore_errors=True)

    def made(self, mix_id: str) -> tuple[Mix, Made, Path]:
        """A mix that is there, and its folder.

        Raises:
            Refused: there is no such mix, or it is not made.
        """
        with self._lock:
            mix = self._mix(mix_id)
            if mix.made is None:
                raise Refused(409, f"{mix.name}: is not there yet")
            return mix, mix.made, self._mix_folder(mix_id)

    def _make(self, mix: Mix, job: Job) -> None:
        """Make a mix, in the thread that mixes."""
        folder = self._mix_folder(mix.id)
        with self._changing():
            mix.state = "running"
            by_name = {file.name: file for file in self._tracks()}
            name = self._stored.name
        made, problem = None, None
        try:
            missing = [track.file for track in mix.table.used if track.file not in by_name]
            if missing:
                raise AudioError(f"{missing[0]}: was removed")
            recordings = {file: entry.recording(self._folder / _FILES, self._limits) for file, entry in by_name.items()}
            folder.mkdir()
            made = making.make(
                self._engine,
                making.Order(name, mix.table, recordings, mix.request, self._reference(mix.request)),
                folder,
                round(self._limits.seconds * SAMPLE_RATE),
                job.report,
            )
        except Cancelled:
            pass
        except FxnormError as error:
            problem = str(error).replace(f"{folder}/", "")
        except Exception:
            _logger.exception("Making a mix failed")
            problem = _DEFECT
        if made is None:
            shutil.rmtree(folder, ignore_errors=True)
        with self._changing():
            self._jobs.pop(mix.id, None)
            mix.made, mix.problem = made, problem
            mix.state = "done" if made is not None else "cancelled" if problem is None else "failed"

    def _reference(self, request: Request) -> "making.ReferenceSong | None":
        if request.reference is None:
            return None
        file = self._file(request.reference)
        samples = file.recording(self._folder / _FILES, self._limits).read()
        return making.ReferenceSong(file.name, samples, Reference.of(samples, file.name))

    # helpers, called with the lock held

    def touch(self) -> None:
        """Whoever looks sees something else."""
        self.revision += 1

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Changes of the block are kept."""
        with self._lock:
            if self._removed:
                raise Refused(404, "this session is gone")
            yield
            self._keep()

    def _keep(self) -> None:
        self.use()
        self.touch()
        if not self._removed:
            write_json(self._folder / STATE_FILE, self._stored.model_dump(mode="json"))

    def _tracks(self) -> list[SessionFile]:
        """In the order in which a folder's files are sorted and summed: sums differ by rounding in another one."""
        tracks = [file for file in self._stored.files if file.kind == "track"]
        return sorted(tracks, key=lambda file: PurePosixPath(file.name))

    def _file(self, file_id: str) -> SessionFile:
        for file in self._stored.files:
            if file.id == file_id:
                return file
        raise Refused(404, "no such file in this session")

    def _mix(self, mix_id: str) -> Mix:
        for mix in self._stored.mixes:
            if mix.id == mix_id:
                return mix
        raise Refused(404, "no such mix in this session")

    def _mix_folder(self, mix_id: str) -> Path:
        return self._folder / _MIXES / mix_id

    def _next(self, letter: str) -> str:
        self._stored.numbers += 1
        return f"{letter}{self._stored.numbers}"

    def _refuse_more(self, files: int, size: int) -> None:
        if len(self._stored.files) + files > self._limits.files:
            raise Refused(413, f"{len(self._stored.files) + files} files, expected at most {self._limits.files}")
        total = sum(file.bytes for file in self._stored.files) + size
        if total > self._limits.session_bytes:
            raise Refused(413, f"{total} bytes of all files together, expected at most {self._limits.session_bytes}")

    def _drop(self, file: SessionFile) -> None:
        if file.id in self._receiving:
            raise Refused(409, f"{file.name}: another request uploads it", file.id, received=file.received)
        self._stored.files.remove(file)
        (self._folder / _FILES / file.stored_name).unlink(missing_ok=True)
        self._stored.problems = [problem for problem in self._stored.problems if problem[1] != file.id]
        if self._stored.table is not None:
            self._stored.table = rows.without(self._stored.table, file.name)

    def _located(self, lines: "list[str] | tuple[str, ...]") -> list[Problem]:
        """Sentences that begin with a file's name, with its id."""
        found = []
        for line in lines:
            text = line.removeprefix(f"{_TABLE}: ")
            named = [file for file in self._stored.files if text.startswith((f"{file.name}: ", f"{file.name}, "))]
            longest = max(named, key=lambda file: len(file.name), default=None)
            found.append(Problem(text, longest.id if longest is not None else None))
        return found

    def _mix_json(self, mix: Mix) -> dict[str, Any]:
        job = self._jobs.get(mix.id)
        content: dict[str, Any] = {
            "id": mix.id,
            "name": mix.name,
            "made": mix.asked,
            "state": mix.state,
            "problem": mix.problem,
            "options": mix.request.model_dump(),
            "outdated": self._stored.table is not None and not rows.mix_alike(mix.table, self._stored.table),
            "position": job.position if job is not None else 0,
            "phase": job.phase if job is not None else "",
            "fraction": round(job.fraction, 3) if job is not None else float(mix.state == "done"),
            "seconds_left": job.seconds_left if job is not None else None,
        }
        made = mix.made or Made.none()
        return content | made.model_dump(exclude={"gains_db"})


class Receiver:
    """Writes a piece of a file, no further than the file's end."""

    def __init__(self, opened: BinaryIO, file: SessionFile) -> None:
        self._opened = opened
        self._file = file
        self._left = file.bytes - file.received

    def write(self, content: bytes) -> None:
        """Append what has arrived.

        Raises:
            Refused: there is more of it than was announced.
        """
        if len(content) > self._left:
            message = f"{self._file.name}: more than the {self._file.bytes} bytes that were announced"
            raise Refused(413, message, self._file.id, received=self._file.received)
        self._left -= len(content)
        self._opened.write(content)


def _checked(name: str) -> str:
    name = " ".join(name.split())
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise Refused(422, f"expected a name of 1 to {_LONGEST_NAME} printable characters")
    return name


def session_id() -> str:
    """An id that nobody guesses, and that is a plain folder's name."""
    return secrets.token_hex(12)
