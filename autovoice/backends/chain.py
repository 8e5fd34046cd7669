"""Components run in order over wires: what one session writes, the next one reads where it lies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from autovoice.backends.base import (
    ENGINE_ERRORS,
    HOST,
    Array,
    Runs,
    Session,
    Shared,
    named_error,
    read_by,
)
from autovoice.backends.loading import session_of
from autovoice.spec.ports import wires as wires_of

if TYPE_CHECKING:
    from autovoice.steps.fields import LinkField

R = TypeVar("R", bound=Runs, covariant=True)
S = TypeVar("S", bound=Runs)


@dataclass(frozen=True, slots=True)
class Link(Generic[R]):
    """A component's session between the wires; inputs and outputs are pairs (its own name, the wire)."""

    name: str
    session: R
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]

    def feeds(self, wires: Mapping[str, Array]) -> dict[str, Array]:
        """What the component reads of the wires, by its own names."""
        return {local: wires[wire] for local, wire in self.inputs}


def link(name: str, session: S, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> Link[S]:
    """A session between the wires: {own name: wire} of its inputs and outputs."""
    return Link(name, session, tuple(inputs.items()), tuple(outputs.items()))


def run_chain(links: Iterable[Link[Runs]], wires: Mapping[str, Array]) -> dict[str, Array]:
    """The wires and all that the components make of them. An engine's error gets its component's name.

    Arrays stay in the memory of whoever made them, until a session in the host's reads them.
    """
    made = dict(wires)
    for one in links:
        try:
            got = one.session.run(read_by(one.session, one.feeds(made)))
        except ENGINE_ERRORS as e:
            raise named_error(e, one.name) from e
        for local, wire in one.outputs:
            made[wire] = got[local]
    return made


def put_feeds(links: Iterable[Link[Session]], feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Feeds where the engines that read them want them, to be run many times."""
    placed = dict(feeds)
    for one in links:
        own = {local: feeds[wire] for local, wire in one.inputs if wire in feeds and one.session.memory != HOST}
        got = one.session.put(own) if own else {}
        placed |= {wire: got[local] for local, wire in one.inputs if local in got}
    return placed


def wait_for(links: Iterable[Link[Session]]) -> None:
    """Until everything that a chain has started is done."""
    for one in links:
        one.session.wait()


def timed_call(session: Session, feeds: Mapping[str, Array]) -> Callable[[], None]:
    """A call to be timed: the feeds are where the session wants them, and it ends when the answer is there."""
    placed = session.put(read_by(session, feeds))

    def call() -> None:
        session.run(placed)
        session.wait()

    return call


def timed_chain(links: Sequence[Link[Session]], wires: Mapping[str, Array]) -> Callable[[], None]:
    """The same of a whole chain, waited for at its end alone; of the wires those that it does not make."""
    made = {wire for one in links for _, wire in one.outputs}
    placed = put_feeds(links, {wire: array for wire, array in wires.items() if wire not in made})

    def call() -> None:
        run_chain(links, placed)
        wait_for(links)

    return call


@contextmanager
def built_chain(components: Mapping[str, LinkField], builds: Mapping[str, Path]) -> Iterator[Sequence[Link[Session]]]:
    """Every component's engine out of its build's folder, loaded by the `backend` of its record."""
    with Shared() as shared, ExitStack() as stack:
        links = []
        for name, c in components.items():
            session = stack.enter_context(session_of(c["backend"], builds[name], c["outputs"], shared))
            links.append(link(name, session, wires_of(c["inputs"]), wires_of(c["outputs"])))
        yield links
