"""Checkpoints: what is loaded, what is folded, and what each refusal says."""

import io
import os
import pickle
import re
import shlex

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations, weight_norm

from autovoice.errors import CheckpointError
from autovoice.modules.weights import fold_weight_norm, load_checkpoint

NORMS = {"hook": weight_norm, "parametrized": parametrizations.weight_norm}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, 6, 5, padding=2)
        self.up = nn.ConvTranspose1d(6, 4, 4, 2, padding=1)
        self.linear = nn.Linear(4, 2)

    def forward(self, x):
        return self.linear(self.up(self.conv(x)).transpose(1, 2))


def normed(form, dims=(0, 0, 0)):
    """A Net with weight norm on every layer, magnitudes moved away from the weights' own norms."""
    net = Net()
    for layer, dim in zip((net.conv, net.up, net.linear), dims, strict=True):
        NORMS[form](layer, dim=dim)
    for name, parameter in net.named_parameters():
        if name.endswith(("_g", "original0")):
            parameter.data *= 0.5 + torch.rand_like(parameter)
    return net


def outputs_agree(one, other):
    x = torch.randn(2, 3, 8)
    with torch.no_grad():
        torch.testing.assert_close(one(x), other(x), atol=1e-6, rtol=1e-5)


def refusal(*args, **options):
    with pytest.raises(CheckpointError) as raised:
        load_checkpoint(*args, **options)
    assert "\n" not in raised.value.fact
    assert "\n" not in raised.value.fix
    assert raised.value.fix
    return raised.value


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def saved(tmp_path):
    """saved(data, name): write with torch.save, or as safetensors by suffix; returns the path."""

    def save(data, name="net.pth", **options):
        path = tmp_path / name
        save_file(data, path) if path.suffix == ".safetensors" else torch.save(data, path, **options)
        return path

    return save


# Loading


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_plain_state_dict(saved, name):
    trained, net = Net(), Net()
    load_checkpoint(net, saved(trained.state_dict(), name))
    outputs_agree(net, trained)


def test_file_from_before_the_zip_format(saved):
    trained, net = Net(), Net()
    load_checkpoint(net, saved(trained.state_dict(), _use_new_zipfile_serialization=False))
    outputs_agree(net, trained)


def test_path_may_be_a_string(saved):
    load_checkpoint(Net(), str(saved(Net().state_dict())))


@pytest.mark.parametrize("prefix", ["flow.net.", "flow.net"])
def test_key_and_prefix(saved, prefix):
    trained, net = Net(), Net()
    state = {f"flow.net.{name}": value for name, value in trained.state_dict().items()}
    path = saved({"model": {**state, "dec.bias": torch.ones(1)}, "optimizer": {"step": 3}, "epoch": 7})
    load_checkpoint(net, path, key="model", prefix=prefix)
    outputs_agree(net, trained)


def test_loaded_weights_outlive_the_file(saved):
    trained, net = Net(), Net()
    path = saved(trained.state_dict())
    load_checkpoint(net, path)
    path.write_bytes(b"\0" * path.stat().st_size)
    outputs_agree(net, trained)


def test_half_precision_weights_keep_the_modules_type(saved):
    net = Net()
    load_checkpoint(net, saved(Net().half().state_dict()))
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}


def test_entries_that_are_not_tensors_are_ignored(saved):
    load_checkpoint(Net(), saved({**Net().state_dict(), "version": 3, "name": "x"}))


def test_strict_off_keeps_what_the_file_lacks(saved):
    trained, net = Net(), Net()
    kept = net.linear.bias.clone()
    state = {name: value for name, value in trained.state_dict().items() if name != "linear.bias"}
    load_checkpoint(net, saved({**state, "extra": torch.ones(2)}), strict=False)
    torch.testing.assert_close(net.conv.weight, trained.conv.weight)
    torch.testing.assert_close(net.linear.bias, kept)


# Weight norm in the file


@pytest.mark.parametrize("form", NORMS)
@pytest.mark.parametrize("dims", [(0, 0, 0), (2, 1, 1), (None, None, None)], ids=str)
@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_weight_norm_is_folded_into_plain_weights(saved, form, dims, name):
    trained, net = normed(form, dims), Net()
    load_checkpoint(net, saved(trained.state_dict(), name))
    assert type(net.conv) is nn.Conv1d
    outputs_agree(net, trained)


@pytest.mark.parametrize("form", NORMS)
@pytest.mark.parametrize("into", NORMS)
def test_weight_norm_into_a_normed_module(saved, form, into):
    trained, net = normed(form), normed(into)
    load_checkpoint(net, saved(trained.state_dict()))
    outputs_agree(net, trained)


def test_weight_norm_of_a_module_that_is_one_layer(saved):
    trained, layer = weight_norm(nn.Linear(3, 2)), nn.Linear(3, 2)
    load_checkpoint(layer, saved(trained.state_dict()))
    x = torch.randn(4, 3)
    torch.testing.assert_close(layer(x), trained(x))


def test_magnitude_as_a_vector(saved):
    trained, net = normed("hook"), Net()
    state = {k: v.flatten() if k.endswith("_g") else v for k, v in trained.state_dict().items()}
    load_checkpoint(net, saved(state))
    outputs_agree(net, trained)


def test_half_precision_weight_norm_is_summed_in_float32(saved):
    direction = torch.full((1, 70000), 2.0).half()  # its squares sum to more than half precision holds
    layer = nn.Linear(70000, 1, bias=False)
    load_checkpoint(layer, saved({"weight_g": torch.ones(1, 1).half(), "weight_v": direction}))
    torch.testing.assert_close(layer.weight.norm().item(), 1.0, atol=1e-4, rtol=0)


def test_magnitude_that_does_not_fit(saved):
    state = normed("hook").state_dict()
    state["conv.weight_g"] = torch.ones(5, 1, 1)
    error = refusal(Net(), saved(state))
    assert "weight norm of conv.weight" in error.fact
    assert "magnitude (5, 1, 1), direction (6, 3, 5)" in error.fact
    assert "weight norm removed" in error.fix


# Refusals


def test_missing_file(tmp_path):
    error = refusal(Net(), tmp_path / "none.pth")
    assert error.fact.endswith("none.pth' does not exist")
    assert error.fix == "give the path of a file, or component.<name>.checkpoint=null for untrained weights"


def test_a_folder_offers_what_lies_in_it(tmp_path, saved):
    assert refusal(Net(), tmp_path).fix == "give the path of a file in it"
    path = saved(Net().state_dict(), "epoch=3.safetensors")
    error = refusal(Net(), tmp_path)
    assert error.fact == f"checkpoint '{tmp_path}' is a folder"
    assert error.fix == f"""'component.<name>.checkpoint="{path}"'"""


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize("keep", [0, 7, 0.3, 0.95])
def test_truncated_file(saved, name, keep):
    path = saved(Net().state_dict(), name)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    error = refusal(Net(), path)
    assert re.search(r"is not a readable (PyTorch|safetensors) file \(\d+ bytes\): .+", error.fact)
    assert "fetch it again if it was cut short" in error.fix


@pytest.mark.parametrize(
    ("data", "fact"),
    [
        (b"<html>404</html>", "' is a web page, not a file of weights"),
        (b"version https://git-lfs.github.com", "' is a pointer of git-lfs, not the file itself"),
        (b"\x80\x02}q\x00.", "' is not a readable PyTorch file"),
        (b"\x1f\x8b\x08", "' is compressed with gzip"),
        (b'{"a": 1}', "' is JSON without a `weight_map`, has a"),
    ],
)
def test_file_of_another_kind(tmp_path, data, fact):
    path = tmp_path / "net.pth"
    path.write_bytes(data)
    error = refusal(Net(), path)
    assert fact in error.fact
    assert "weights_only" not in str(error)  # PyTorch's own text advises to load unsafely


class Command:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class Reducible:
    """A plain object: harmless, but loading it needs its class imported."""


def write_pickle(data, path):
    path.write_bytes(pickle.dumps(data))


def write_oldest_pickle(data, path):
    path.write_bytes(pickle.dumps(data, protocol=0))


WRITERS = {"zip": torch.save, "pickle": write_pickle, "protocol 0": write_oldest_pickle}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("key", [None, "generator"])
def test_pickle_that_would_run_code(tmp_path, write, key):
    marker, path = tmp_path / "executed", tmp_path / "evil.pth"
    write({"generator": {"weight": Command(marker)}}, path)
    error = refusal(Net(), path, key=key)
    assert not marker.exists()
    assert "is a pickle that would run code on loading (it imports posix.mkdir); it was not run" in error.fact
    assert "convert it once: python -c" in error.fix
    assert ("generator" in error.fix) == (key is not None)
    torch.load(path, weights_only=False) if write is torch.save else pickle.loads(path.read_bytes())
    assert marker.exists()  # the file would have done harm


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_the_conversion_that_is_advised_works(tmp_path, write):
    trained, net, path = Net(), Net(), tmp_path / "it's $net.pth"
    write({"hps": Reducible(), "model": trained.state_dict()}, path)
    error = refusal(net, path, key="model")
    first = "copy_reg._reconstructor" if write is write_oldest_pickle else f"{__name__}.Reducible"
    assert f"it imports {first}" in error.fact
    new = path.with_suffix(".safetensors")
    command, then = error.fix.removeprefix("if you trust its author, convert it once: ").split(", then ")
    python, option, script = shlex.split(command)
    node = f'{{path: "{new}", key: null}}'
    assert shlex.split(then) == [f"component.<name>.checkpoint={node}"]
    assert (python, option) == ("python", "-c")
    exec(script, {})
    load_checkpoint(net, new)
    outputs_agree(net, trained)


def test_absent_key(saved):
    path = saved({"generator": Net().state_dict(), "discriminator": {"a": torch.ones(1)}, "step": 3})
    error = refusal(Net(), path, key="generatr")
    assert error.fact == f"'{path}' has no key 'generatr'"
    assert "did you mean 'generator'? available: discriminator, generator" in error.fix


def test_key_where_nothing_is_nested(saved):
    error = refusal(Net(), saved(Net().state_dict(), "net.safetensors"), key="model")
    assert error.fix == "the file nests no state dict: leave key out, component.<name>.checkpoint.key=null"


def test_nested_file_without_key(saved):
    error = refusal(Net(), path := saved({"generator": Net().state_dict(), "epoch": 3}))
    assert "holds no tensors by name but a dict" in error.fact
    typed = f"component.<name>.checkpoint='{{path: {path}, key: generator}}'"
    assert error.fix == f"set key to the state dict to load, as {typed}; available: generator"


@pytest.mark.parametrize("data", [torch.ones(3), [torch.ones(3)], 7])
def test_file_without_a_state_dict(saved, data):
    error = refusal(Net(), saved(data))
    assert f"holds no tensors by name but a {type(data).__name__}" in error.fact
    assert error.fix == "the file nests no state dict: save the module's state_dict()"


def test_key_of_something_else(saved):
    error = refusal(Net(), saved({"model": Net().state_dict(), "epoch": 3}), key="epoch")
    assert "key 'epoch' of" in error.fact
    assert "available: model" in error.fix


def test_absent_prefix(saved):
    state = {f"flow.{name}": value for name, value in Net().state_dict().items()}
    error = refusal(Net(), saved({**state, "dec.bias": torch.ones(1)}), prefix="flows.")
    assert "lies below prefix 'flows.'" in error.fact
    assert "did you mean 'flow'? available: dec, flow" in error.fix


def test_missing_and_unexpected_names(saved):
    state = {name: value for name, value in Net().state_dict().items() if not name.startswith("linear")}
    more = {f"post.{i}.bias": torch.ones(1) for i in range(5)}
    error = refusal(Net(), path := saved({**state, **more}))
    assert error.fact == (
        f"'{path}' does not fit Net: 2 of 6 parameters missing (linear.weight, linear.bias), "
        "5 of 9 unexpected (post.0.bias, post.1.bias, post.2.bias, … 2 more)"
    )
    assert "strict=false" in error.fix


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("form", [*NORMS, "plain"])
def test_the_prefix_that_would_do_is_named(saved, form, strict):
    trained = Net() if form == "plain" else normed(form)
    path = saved({f"module.net.{name}": value for name, value in trained.state_dict().items()})
    error = refusal(Net(), path, strict=strict)
    assert "6 of 6 parameters missing" in error.fact
    typed = f"component.<name>.checkpoint='{{path: {path}, prefix: net.}}'"
    assert error.fix == f"set prefix='net.', below which the file has the missing names: {typed}"
    for prefix in ("net.", "module.net."):
        net = Net()
        load_checkpoint(net, path, prefix=prefix, strict=strict)
        outputs_agree(net, trained)


@pytest.mark.parametrize("strict", [True, False])
def test_nothing_in_common_is_never_accepted(saved, strict):
    error = refusal(Net(), saved({"a": torch.ones(1)}), strict=strict)
    assert "6 of 6 parameters missing (conv.weight, conv.bias, up.weight, … 3 more)" in error.fact
    assert error.fix.startswith("no name agrees: set key or prefix")


def test_checkpoint_for_a_module_without_parameters(saved):
    assert "does not fit ReLU: 1 of 1 unexpected (a)" in refusal(nn.ReLU(), saved({"a": torch.ones(1)})).fact


@pytest.mark.parametrize("strict", [True, False])
def test_wrong_shape(saved, strict):
    net, state = Net(), {**Net().state_dict(), "linear.bias": torch.ones(7)}
    before = net.conv.weight.clone()
    error = refusal(net, path := saved(state), strict=strict)
    assert error.fact == (f"1 of 6 parameters have another shape in '{path}': linear.bias: got (7,), expected (2,)")
    assert "strict=false does not skip shapes" in error.fix
    torch.testing.assert_close(net.conv.weight, before)  # a refused file leaves the module untouched


# Weight norm in the module


@pytest.mark.parametrize("form", NORMS)
@pytest.mark.parametrize("dims", [(0, 0, 0), (2, 1, 1), (None, None, None)], ids=str)
def test_fold_weight_norm(form, dims):
    net = normed(form, dims)
    x = torch.randn(2, 3, 8)
    expected = net(x)
    assert fold_weight_norm(net) == 3
    assert set(net.state_dict()) == set(Net().state_dict())
    torch.testing.assert_close(net(x), expected)
    assert fold_weight_norm(net) == 0


def test_fold_leaves_other_parametrizations_alone():
    net = Net()
    parametrizations.orthogonal(net.linear)
    parametrizations.weight_norm(net.conv)
    assert fold_weight_norm(net) == 1
    assert nn.utils.parametrize.is_parametrized(net.linear)
    assert not nn.utils.parametrize.is_parametrized(net.conv)


def test_fold_reaches_shared_and_nested_layers_once():
    layer = weight_norm(nn.Linear(2, 2))
    assert fold_weight_norm(nn.ModuleList([nn.Sequential(layer), layer])) == 1


def test_fold_several_weights_of_one_layer():
    layer = nn.LSTM(2, 3)
    for name in ("weight_ih_l0", "weight_hh_l0"):
        weight_norm(layer, name)
    assert fold_weight_norm(layer) == 2


def test_folded_module_can_be_saved_and_copied():
    net = normed("parametrized")
    fold_weight_norm(net)
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    assert type(net.conv) is nn.Conv1d
