"""`task=convert input=in.wav speaker=spk.npy output=out.wav`: a recording through the built files."""

from __future__ import annotations

from autovoice.errors import AudioError
from autovoice.invocation import Invocation
from autovoice.table import seconds
from autovoice.tasks.run import loaded


def run(invocation: Invocation) -> int:
    from autovoice.voice.convert import ConvertRequest, check_files, check_request, convert

    s = invocation.settings
    for name in ("input", "output"):
        if getattr(s, name) is None:
            raise AudioError(
                f"task=convert needs {name}=",
                "autovoice task=convert input=in.wav speaker=spk.npy output=out.wav",
            )
    assert s.input is not None
    assert s.output is not None
    request = ConvertRequest(
        s.input,
        s.output,
        s.speaker,
        s.transpose,
        s.sampling_temperature,
        s.output_sample_rate,
        s.seed,
        s.f0_min,
        s.f0_max,
    )
    check_request(request)
    check_files(request)
    with loaded(invocation) as pipeline:
        result = convert(pipeline, request)
    scaled = f", peak {result.peak:.2f} scaled down to 1" if result.scaled else f", peak {result.peak:.2f}"
    print(
        f"{result.output}: {result.seconds_out:.3f} s at {result.sample_rate} Hz from {result.seconds_in:.3f} s, "
        f"{result.frames} frames, {result.voiced_share:.0%} voiced{scaled}, {result.realtime_factor:.1f}× real time"
    )
    print("  " + ", ".join(f"{stage} {seconds(t)}" for stage, t in result.timings.items()))
    return 0
