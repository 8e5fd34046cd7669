"""`task=convert input=in.wav speaker=spk.npy output=out.wav`: a recording through the built files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from autovoice.command.invocation import Invocation
from autovoice.config.reader import Reader
from autovoice.errors import AudioError, ConfigError, Fault
from autovoice.tasks.run import loaded, output_of
from autovoice.terminal.escape import say
from autovoice.terminal.table import seconds

if TYPE_CHECKING:
    from autovoice.voice.request import ConvertRequest


def run(invocation: Invocation) -> int:
    from autovoice.voice.convert import check_files, convert
    from autovoice.voice.request import check_request

    request = _request(invocation)
    check_request(request)
    output_of(invocation, request.reads).check()
    check_files(request)
    with loaded(invocation) as pipeline:
        result = convert(pipeline, request)
    scaled = " scaled down to 1" if result.scaled else ""
    say(
        f"{result.output}: {result.seconds_out:.3f} s at {result.sample_rate} Hz from {result.seconds_in:.3f} s, "
        f"{result.frames} frames, {result.voiced_share:.0%} voiced, peak {result.peak:.2f}{scaled}, "
        f"{result.realtime_factor:.1f}× real time",
        "  " + ", ".join(f"{stage} {seconds(t)}" for stage, t in result.timings.items()),
    )
    return 0


def _request(invocation: Invocation) -> ConvertRequest:
    """The options of this task. Raises ConfigError for a wrong kind of value, AudioError for a missing file name."""
    from autovoice.voice.request import ConvertRequest

    faults: list[Fault] = []
    r = Reader(invocation.data, "", faults)
    source, target = invocation.settings.input, invocation.settings.output
    request = ConvertRequest(
        input=source or Path(),
        output=target or Path(),
        overwrite=invocation.settings.overwrite,
        speaker=r.take("speaker", str, None),
        transpose=r.take("transpose", float, 0.0),
        sampling_temperature=r.take("sampling_temperature", float, 1.0),
        output_sample_rate=r.take("output_sample_rate", int, 44100),
        seed=r.take("seed", int, 0),
        f0_min=r.take("f0_min", float, 50.0),
        f0_max=r.take("f0_max", float, 1100.0),
    )
    if faults:
        raise ConfigError(faults)
    for name, value in (("input", source), ("output", target)):
        if value is None:
            example = "autovoice task=convert input=in.wav speaker=spk.npy output=out.wav"
            raise AudioError(f"task=convert needs {name}=", example)
    return request
