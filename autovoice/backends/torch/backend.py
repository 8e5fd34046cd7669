"""PyTorch itself: the engine is the component's own module, its weights in a file. Needs torch and the model's code.

In float16, which needs a GPU, convolutions and matrix products are computed in it, and where autocast prefers
float32, as in normalisations, that is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autovoice.backends.build import Delivered
from autovoice.errors import BuildError, choices, nearest

if TYPE_CHECKING:
    from torch import Tensor, device, nn

    from autovoice.backends.base import Shared
    from autovoice.backends.build import BuildRequest
    from autovoice.backends.engine import Engine
    from autovoice.backends.torch.record import Record
    from autovoice.backends.torch.session import TorchSession
    from autovoice.spec.fields import KeepField, TracedModuleField

_DEVICES = ("auto", "cpu", "cuda")
_SWITCHES = ("cuda_graphs",)
_OPTIONS = ("device", "compile", *_SWITCHES)
#: modes of torch.compile that record CUDA graphs of their own, and the others
_RECORDING = ("reduce-overhead", "max-autotune")
_MODES = ("default", *_RECORDING, "max-autotune-no-cudagraphs")


class Torch:
    """Options: `device` (auto: the GPU where torch sees one), `compile` (a mode of torch.compile), `cuda_graphs`."""

    suffix = ".safetensors"

    def __init__(self, options: Mapping[str, Any]) -> None:
        for key, value in options.items():
            if key not in _OPTIONS:
                raise BuildError(f"backend.options: unknown key '{key}'", nearest(key, _OPTIONS))
            if key in _SWITCHES and not isinstance(value, bool):
                fix = f"backend.session.{key}=false"
                raise BuildError(f"backend.session.{key}: {value!r} is neither true nor false", fix)
        self.device = options.get("device", "auto")
        if not isinstance(self.device, str) or self.device not in _DEVICES:
            raise BuildError(f"backend.options.device: '{self.device}'", nearest(str(self.device), _DEVICES))
        mode = options.get("compile") or ""  # false and null: none
        self.compile: str = "default" if mode is True else str(mode)
        if self.compile and self.compile not in _MODES:
            raise BuildError(f"backend.session.compile: '{mode}'", nearest(self.compile, _MODES))
        self.graphs: bool = options.get("cuda_graphs", False)
        if self.graphs and self.compile in _RECORDING:
            fact = f"backend.session.cuda_graphs: compile={self.compile} records CUDA graphs of its own"
            fix = "backend.session.cuda_graphs=false, or backend.session.compile=max-autotune-no-cudagraphs"
            raise BuildError(fact, fix)

    def check_device(self, dtype: str, seen: bool) -> None:
        """Raise BuildError for what needs a GPU, where torch has not `seen` one or is told to leave it alone."""
        if self.device == "cuda" and not seen:
            fix = "backend.options.device=cpu, or a torch and a driver that see the GPU: autovoice task=doctor"
            raise BuildError("backend.options.device: torch sees no CUDA device here", fix)
        if seen and self.device != "cpu":
            return
        if dtype == "float16":
            raise BuildError("torch runs float16 on a GPU alone, and this is a CPU", "precision=fp32, or a GPU")
        if self.graphs:
            fix = "backend.session.cuda_graphs=false"
            raise BuildError("backend.session.cuda_graphs: CUDA graphs need a GPU, and this is a CPU", fix)

    def engine_from_onnx(self, request: BuildRequest) -> Delivered:
        """Write the module of the request, not its graph, and run what was written once, counting operations."""
        from autovoice.backends.torch.allowed_targets import check_model
        from autovoice.backends.torch.count import stored
        from autovoice.backends.torch.engine_file import in_dtype, write_engine
        from autovoice.modules.loading import load_module

        dtype, made = request.precision["type"], _module(request)
        if dtype == "float16":
            _check_keep(request.keep)
        where = self._device(dtype)
        check_model(made["model"], BuildError)
        module, _ = load_module(made, request.inputs, request.files)
        record = _record(request, _changed(module, request))
        in_dtype(module, dtype)
        state = write_engine(request.engine, module, record)
        counts, heavy = self._counted(request)
        return Delivered(
            file=counts,
            heavy=heavy,
            executed=heavy,
            weights=stored(state),
            unit="operations",
            more={"device": where.type},
        )

    def code_in(self, engine: Engine) -> tuple[str, ...]:
        """The module, and whatever its arguments name to be made too."""
        from autovoice.backends.torch.record import read_record

        return read_record(engine).targets

    def session_from_engine(
        self, engine: Engine, outputs: tuple[str, ...], shared: Shared | None = None
    ) -> TorchSession:
        """Raises ArtefactError where the model's code is absent or another one; nothing is `shared`."""
        return self._session(engine, outputs)

    def _session(self, engine: Engine, outputs: tuple[str, ...], plain: bool = False) -> TorchSession:
        """`plain`: without what hides operations from whoever counts them."""
        from autovoice.backends.torch.engine_file import read_engine
        from autovoice.backends.torch.session import TorchSession

        module, record = read_engine(engine)
        where = self._device(record.dtype)
        if self.compile and not plain:
            # tuned kernels are tuned for sizes: each set of them is compiled by itself
            module.compile(mode=self.compile, dynamic=self.compile == "default")
        watched = plain and record.dtype == "float16"
        lent = not plain and where.type == "cuda" and self.compile in _RECORDING
        return TorchSession(module, record, outputs, where, self.graphs and not plain, watched, lent)

    def _device(self, dtype: str) -> device:
        """Where to run. Raises BuildError rather than move what was meant for a GPU."""
        import torch

        seen = torch.cuda.is_available()
        self.check_device(dtype, seen)
        if seen and self.device != "cpu":
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("cpu")

    def _counted(self, request: BuildRequest) -> tuple[dict[str, int], dict[str, int]]:
        """{type: operations} of what was written, at the sizes of tracing; and of convolutions and products alone."""
        from autovoice.backends.torch.count import CountOperations
        from autovoice.machine.sharing import gpu_shared
        from autovoice.modules.tracing import trace_inputs

        made, mode = _module(request), CountOperations()
        feeds = trace_inputs(request.inputs, made["trace"])
        with (
            gpu_shared(alone=False),
            self._session(request.engine, tuple(made["output_order"]), plain=True) as session,
        ):
            feeds = session.put(feeds)
            with mode:
                session.run(feeds)
            session.wait()
        return dict(mode.counts), dict(mode.heavy)


def _module(request: BuildRequest) -> TracedModuleField:
    if request.module is None:
        raise BuildError("torch runs modules, and was given none", "from_module: true in the backend's YAML")
    return request.module


def _record(request: BuildRequest, changed: list[str]) -> Record:
    from autovoice.backends.torch.record import Record

    made = _module(request)
    return Record(
        target=made["model"]["target"],
        kwargs=made["model"]["kwargs"],
        seed=made["seed"],
        inputs={name: t["dtype"] for name, t in request.inputs.items()},
        # in the order of forward's tuple: a record of JSON keeps none
        outputs={name: request.outputs[name]["dtype"] for name in made["output_order"]},
        dtype=request.precision["type"],
        kept=list(request.keep["inputs"]),
        changed=changed,
    )


def _changed(module: nn.Module, request: BuildRequest) -> list[str]:
    """The inputs that forward overwrites, which an engine may not do to its caller's arrays."""
    from autovoice.modules.loading import call
    from autovoice.modules.tracing import trace_inputs

    made = _module(request)
    feeds: dict[str, Tensor] = trace_inputs(request.inputs, made["trace"])
    call(module, feeds, made["output_order"])
    return [name for name, value in feeds.items() if value._version]  # torch counts writes


def _check_keep(keep: KeepField) -> None:
    for key, named in (("op_types", keep["op_types"]), ("nodes", keep["nodes"])):
        if named:
            fact = f"keep.{key} ({choices(named)}) is about nodes of an ONNX graph, and torch runs the module"
            empty = f"component.<name>.keep.{key}=[] or precision.keep.{key}=[]"
            raise BuildError(fact, f"{empty} leaves it to autocast; keep.inputs works here; or precision=fp32")


BACKEND = Torch
