"""Checkpoints as the official code writes them: what is read from them, and what is not."""

import functools
import hashlib
import io
import json
import os
import pickle
import sys
import time
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from byol.answer import Answer
from byol.data.image.preprocessing import Preprocessing
from byol.data.images import InMemory
from byol.errors import UserError
from byol.evaluate.judging import judge
from byol.evaluate.protocol.knn import Knn
from byol.model.encoder import ConvNet, ResNet
from byol.weights.encoder_file import save_encoder
from byol.weights.haiku import convert
from byol.weights.official import import_official
from byol.weights.pretrained import load

Tree = dict[str, dict[str, NDArray[Any]]]

BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 200: (3, 24, 36, 3)}


def layers(depth: int, width: int) -> Iterator[tuple[str, str, str, tuple[int, int, int, int]]]:
    """Name our convolution and norm, the official ones, and the shape HWIO, in the official order."""
    root, inputs = f"res_net{depth}/~", 64 * width
    yield "conv1 bn1", f"{root}/initial_conv", f"{root}/initial_batchnorm", (7, 7, 3, inputs)
    for group, repeats in enumerate(BLOCKS[depth]):
        middle = 64 * width * 2**group
        outputs = middle if depth < 50 else 4 * middle
        for block in range(repeats):
            here, ours = f"{root}/block_group_{group}/~/block_{block}/~", f"layer{group + 1}.{block}"
            shapes = [(1, 1, inputs, middle), (3, 3, middle, middle), (1, 1, middle, outputs)]
            if depth < 50:
                shapes = [(3, 3, inputs, middle), (3, 3, middle, middle)]
            for i, shape in enumerate(shapes):
                names = f"{ours}.conv{i + 1} {ours}.bn{i + 1}"
                yield names, f"{here}/conv_{i}", f"{here}/batchnorm_{i}", shape
            if block == 0:
                names = f"{ours}.downsample.0 {ours}.downsample.1"
                shape = (1, 1, inputs, outputs)
                yield names, f"{here}/shortcut_conv", f"{here}/shortcut_batchnorm", shape
            inputs = outputs


def random_trees(depth: int, width: int) -> tuple[Tree, Tree]:
    """Parameters and state with some of everything, and sizes that neither vanish nor explode."""
    random, params, state = np.random.default_rng(0), Tree(), Tree()

    def normal(shape: tuple[int, ...], scale: float, shift: float = 0.0) -> NDArray[np.float32]:
        return random.standard_normal(shape, np.float32) * np.float32(scale) + np.float32(shift)

    for _, conv, norm, shape in layers(depth, width):
        row = (1, 1, 1, shape[3])
        params[conv] = {"w": normal(shape, (2 / np.prod(shape[:3])) ** 0.5)}
        params[norm] = {"scale": normal(row, 0.1, 0.5), "offset": normal(row, 0.1)}
        for name, average in (("mean", normal(row, 0.1)), ("var", np.exp(normal(row, 0.2)))):
            counter = np.array(9, np.int32)
            state[f"{norm}/~/{name}_ema"] = {"counter": counter, "hidden": average / 2, "average": average}
    for name in ("projector/linear", "predictor/linear_1", "classifier"):
        params[name] = {"w": normal((3, 2), 1.0)}
    return params, state


def constant_trees(depth: int, width: int) -> tuple[Tree, Tree, dict[str, float]]:
    """Trees that take no memory, every array full of a number of its own, and these by our names."""
    params, state, numbers = Tree(), Tree(), dict[str, float]()

    def full(shape: tuple[int, ...], ours: str) -> NDArray[np.float32]:
        numbers[ours] = len(numbers) + 1.0
        return np.broadcast_to(np.float32(numbers[ours]), shape)

    for names, conv, norm, shape in layers(depth, width):
        (our_conv, our_norm), row = names.split(), (1, 1, 1, shape[3])
        params[conv] = {"w": full(shape, f"{our_conv}.weight")}
        params[norm] = {"scale": full(row, f"{our_norm}.weight"), "offset": full(row, f"{our_norm}.bias")}
        state[f"{norm}/~/mean_ema"] = {"average": full(row, f"{our_norm}.running_mean")}
        state[f"{norm}/~/var_ema"] = {"average": full(row, f"{our_norm}.running_var")}
    return params, state, numbers


def official_forward(params: Tree, state: Tree, images: Tensor) -> Tensor:
    """The official evaluation of images (B, H, W, 3), straight from the tree: NHWC, HWIO, SAME."""
    root = next(name.split("/")[0] for name in params if name.startswith("res_net"))

    def pad(x: Tensor, kernel: int, stride: int, value: float) -> Tensor:
        sides: list[int] = []
        for length in (x.shape[2], x.shape[1]):
            total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
            sides += [total // 2, total - total // 2]
        return F.pad(x, (0, 0, *sides), value=value)

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        w = torch.from_numpy(params[name]["w"])
        x = pad(x, w.shape[0], stride, 0.0).permute(0, 3, 1, 2)
        return F.conv2d(x, w.permute(3, 2, 0, 1), stride=stride).permute(0, 2, 3, 1)

    def norm(x: Tensor, name: str) -> Tensor:
        mean = torch.from_numpy(state[f"{name}/~/mean_ema"]["average"])
        var = torch.from_numpy(state[f"{name}/~/var_ema"]["average"])
        scale, offset = (torch.from_numpy(params[name][key]) for key in ("scale", "offset"))
        return (x - mean) * (scale * torch.rsqrt(var + 1e-5)) + offset

    x = norm(conv(images, f"{root}/~/initial_conv", 2), f"{root}/~/initial_batchnorm").relu()
    x = F.max_pool2d(pad(x, 3, 2, -torch.inf).permute(0, 3, 1, 2), 3, 2).permute(0, 2, 3, 1)
    for group in range(4):
        for block in range(99):
            here = f"{root}/~/block_group_{group}/~/block_{block}/~"
            if f"{here}/conv_0" not in params:
                break
            stride = 2 if group and not block else 1
            shortcut = x
            if not block:
                shortcut = norm(conv(x, f"{here}/shortcut_conv", stride), f"{here}/shortcut_batchnorm")
            strides = [1, stride, 1] if f"{here}/conv_2" in params else [stride, 1]
            for i, step in enumerate(strides):
                x = norm(conv(x, f"{here}/conv_{i}", step), f"{here}/batchnorm_{i}")
                x = x.relu() if i < len(strides) - 1 else (x + shortcut).relu()
    return x.mean(dim=(1, 2))


class Module(NamedTuple):
    """Stands for a module in a pickle of dill's."""

    name: str


@pytest.fixture
def dump(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Pickle trees as the official code, under the authentic names of what is not installed here."""

    def place(module: str, name: str, thing: Any) -> Any:
        parts = module.split(".")
        for i in range(len(parts)):
            if ".".join(parts[: i + 1]) not in sys.modules:
                monkeypatch.setitem(sys.modules, ".".join(parts[: i + 1]), types.ModuleType(parts[i]))
        thing.__module__, thing.__name__, thing.__qualname__ = module, name, name
        monkeypatch.setattr(sys.modules[module], name, thing, raising=False)
        return thing

    class FlatMapping:
        def __init__(self, mapping: Any) -> None:
            self.mapping = mapping

        def __reduce__(self) -> Any:
            return type(self), (self.mapping,)

    class State(NamedTuple):
        online_params: Any
        target_params: Any
        online_state: Any
        target_state: Any
        opt_state: Any

    class Lars(NamedTuple):
        mu: Any

    haiku, byol, dill = "haiku._src.data_structures", "byol.byol_experiment", "dill._dill"
    place(haiku, "FlatMapping", FlatMapping)
    place(byol, "_ByolExperimentState", State)
    place("byol.utils.optimizers", "LarsState", Lars)
    create_namedtuple = place(dill, "_create_namedtuple", lambda *_: None)
    create_array = place(dill, "_create_array", lambda *_: None)
    get_attribute = place(dill, "_get_attr", lambda *_: None)
    import_module = place(dill, "_import_module", lambda *_: None)
    reconstruct = np.zeros(1).__reduce__()[0]

    class Dill(pickle.Pickler):
        """What dill 0.3 and 0.4 wrote with Haiku and JAX, as the disassembly of their files shows."""

        is_old = False

        def reducer_override(self, thing: Any) -> Any:
            if thing in (State, Lars) if isinstance(thing, type) else False:
                return create_namedtuple, (thing.__name__, thing._fields, thing.__module__)
            if type(thing) is Module:
                return import_module, (thing.name,)
            if self.is_old and thing is reconstruct:
                return get_attribute, (Module("numpy.core._multiarray_umath"), "_reconstruct")
            if not self.is_old and type(thing) is np.ndarray:
                return create_array, thing.__reduce__()
            return NotImplemented

    class OldDill(Dill):
        is_old = True

    def write(params: Tree, state: Tree, pickler: str = "dill 0.3", name: str = "pretrain_res.pkl") -> Path:
        online = FlatMapping(params), FlatMapping(params), FlatMapping(state), FlatMapping(state)
        content = {
            "experiment_state": State(*online, [Lars(mu=FlatMapping({}))]),
            "step": np.int64(7),
            "rng": np.zeros(2, np.uint32),
        }
        stream = io.BytesIO()
        {"dill 0.3": OldDill, "dill 0.4": Dill, "pickle": pickle.Pickler}[pickler](stream, 2).dump(content)
        path = tmp_path / name
        path.write_bytes(stream.getvalue())
        return path

    return write


def worst(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


# Odd sides put SAME's odd pixel where it shows. The same comparison against Haiku itself, on a checkpoint
# that dill had written, gave 3e-6 for ResNet-50 and 8e-6 for ResNet-18 2x.
@pytest.mark.parametrize(("depth", "width", "size"), [(50, 1, (64, 47)), (18, 1, (33, 50))])
def test_an_imported_encoder_computes_what_the_official_one_does(
    depth: int, width: int, size: tuple[int, int], dump: Callable[..., Path], tmp_path: Path
) -> None:
    params, state = random_trees(depth, width)
    file = dump(params, state)
    imported = import_official(file, tmp_path / "run")
    answer: Answer = imported
    assert answer.to_json()["value"] == answer.value == imported.num_weights
    assert answer.table()[1][1:3] == [f"ResNet-{depth}", f"{width}x"]
    assert str(imported.path) in answer.sentence()
    path = Path(imported)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    encoder = load(tmp_path / "run")
    with torch.no_grad():
        ours, theirs = encoder(images), official_forward(params, state, images.permute(0, 2, 3, 1))
    assert path == tmp_path / "run" / "encoder.safetensors"
    assert ours.shape == (2, width * (512 if depth < 50 else 2048))
    # float32 has 6e-8; the norm multiplies in another order, and some 50 layers each round once or twice.
    assert worst(ours, theirs) <= 1e-5
    facts = json.loads((tmp_path / "run" / "provenance.json").read_text())
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert (facts["imported"], facts["sha256"], facts["step"]) == ("pretrain_res.pkl", digest, 7)


@pytest.mark.slow
def test_every_array_of_resnet_200_2x_finds_its_place() -> None:
    params, state, numbers = constant_trees(200, 2)
    spec, weights = convert(params, state, "a test")
    assert spec == ResNet(depth=200, width=2, padding="same", first_shortcut="projection")
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in spec.build().state_dict().items()}
    assert {name: tensor.shape for name, tensor in weights.items()} == shapes
    found = {name: tensor for name, tensor in weights.items() if not name.endswith("num_batches_tracked")}
    assert found.keys() == numbers.keys()
    for name, tensor in found.items():
        assert tensor.flatten()[0] == tensor.flatten()[-1] == numbers[name], name


# 250 million parameters: a quarter of a minute and 3 GB.
@pytest.mark.slow
def test_resnet_200_2x_computes_what_the_official_one_does() -> None:
    params, state = random_trees(200, 2)
    spec, weights = convert(params, state, "a test")
    with torch.device("meta"):
        encoder = spec.build().eval()
    encoder.load_state_dict(weights, assign=True)
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = official_forward(params, state, images.permute(0, 2, 3, 1))
        assert worst(encoder(images), theirs) <= 1e-5  # as above


@pytest.mark.parametrize("pickler", ["dill 0.3", "dill 0.4", "pickle"])
@pytest.mark.parametrize("core", ["core", "_core"])
def test_any_pickler_and_any_numpy_gives_the_same_arrays(
    pickler: str, core: str, dump: Callable[..., Path], tmp_path: Path
) -> None:
    params, state = random_trees(18, 1)
    file = dump(params, state, pickler)
    file.write_bytes(
        file.read_bytes().replace(b"numpy._core.multiarray\n", f"numpy.{core}.multiarray\n".encode())
    )
    import_official(file, tmp_path / "run")
    assert_holds(tmp_path / "run", params, state)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("is_nested", [False, True])
def test_a_plain_mapping_is_read_too(protocol: int, is_nested: bool, tmp_path: Path) -> None:
    params, state = random_trees(18, 1)
    stem = "res_net18/~/initial_conv"
    params[stem]["w"] = np.asfortranarray(params[stem]["w"])
    params[f"{stem}"]["w"] = params[stem]["w"].astype(">f8")
    online: Any = OrderedDict(online_params=params, online_state=state)
    file = tmp_path / "plain.pkl"
    file.write_bytes(pickle.dumps({"experiment_state": online} if is_nested else online, protocol))
    import_official(file, tmp_path / "run")
    assert_holds(tmp_path / "run", params, state)
    assert json.loads((tmp_path / "run" / "provenance.json").read_text())["step"] is None


def test_the_stem_may_have_the_name_that_haiku_gives_a_second_one() -> None:
    params, state, numbers = constant_trees(18, 1)
    params["res_net18/~/initial_conv_1"] = params.pop("res_net18/~/initial_conv")
    assert convert(params, state, "a test")[1]["conv1.weight"][0, 0, 0, 0] == numbers["conv1.weight"]


def assert_holds(run: Path, params: Tree, state: Tree) -> None:
    weights = load(run).encoder.state_dict()
    for names, conv, norm, _ in layers(18, 1):
        ours, our_norm = names.split()
        expected = params[conv]["w"].transpose(3, 2, 0, 1).astype(np.float32)
        np.testing.assert_array_equal(weights[f"{ours}.weight"].numpy(), expected)
        for name, array in (
            ("weight", params[norm]["scale"]),
            ("bias", params[norm]["offset"]),
            ("running_mean", state[f"{norm}/~/mean_ema"]["average"]),
            ("running_var", state[f"{norm}/~/var_ema"]["average"]),
        ):
            np.testing.assert_array_equal(weights[f"{our_norm}.{name}"].numpy(), array.reshape(-1))


STEM, NORM = "res_net18/~/initial_conv", "res_net18/~/block_group_2/~/block_1/~/batchnorm_0"


def drop(tree: Tree, place: str, name: str) -> None:
    del tree[place][name]


def put(tree: Tree, place: str, name: str, *shape: int) -> None:
    tree.setdefault(place, {})[name] = np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda p, s: drop(p, NORM, "scale"),
            rf"lacks {NORM} scale of shape \(1, 1, 1, 256\); res_net18 needs",
        ),
        (lambda p, s: drop(s, f"{NORM}/~/var_ema", "average"), rf"lacks {NORM}/~/var_ema average of shape"),
        (lambda p, s: put(p, NORM, "offset", 256), rf"{NORM} offset has shape \(256,\); .* \(1, 1, 1, 256\)"),
        (
            lambda p, s: put(p, f"{STEM}_1", "w", 7, 7, 3, 64),
            rf"holds {STEM}_1 w of shape .* no place for it",
        ),
        (lambda p, s: put(p, STEM, "b", 64), rf"holds {STEM} b of shape \(64,\); res_net18 has no place"),
        (lambda p, s: put(s, NORM, "average", 2), rf"holds {NORM} average of shape \(2,\)"),
        (
            lambda p, s: put(p, STEM, "w", 7, 7, 3, 32),
            r"initial_conv w has shape .*32.*; .* a multiple of 64",
        ),
        (lambda p, s: put(p, STEM, "w", 7, 7, 3, 0), r"initial_conv w has shape .*; .* a multiple of 64"),
        (lambda p, s: put(p, STEM, "w", 3, 3, 3, 64), r"initial_conv w has shape \(3, 3, .* \(7, 7, 3, 64\)"),
        (lambda p, s: drop(p, STEM, "w"), r"initial_conv w has shape \(0,\)"),
        (lambda p, s: put(p, "res_net34/~/a", "w", 1), r"holds 2 networks named res_net"),
        (lambda p, s: p.clear(), r"holds 0 networks named res_net"),
    ],
)
def test_what_is_missing_left_over_or_misshapen_is_named(
    change: Callable[[Tree, Tree], None], message: str
) -> None:
    params, state, _ = constant_trees(18, 1)
    change(params, state)
    with pytest.raises(UserError, match=message):
        convert(params, state, "a.pkl")


@pytest.mark.parametrize("root", ["res_net77", "res_net50", "res_net", "res_net18_1"])
def test_the_depth_in_the_name_has_to_be_that_of_the_blocks(root: str) -> None:
    params, state, _ = constant_trees(18, 1)
    params, state = (
        {place.replace("res_net18", root): arrays for place, arrays in tree.items()}
        for tree in (params, state)
    )
    with pytest.raises(UserError, match=f"{root}"):
        convert(params, state, "a.pkl")


class Calls:
    """Pickled as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def touched(flag: Path) -> list[tuple[str, bytes]]:
    """Pickles that would make a file, or get hold of something with which one could."""
    command = f"touch {flag}"
    inner = {"online_params": {"a": {"b": Calls(os.system, command)}}, "online_state": {}}
    partial = functools.partial(os.system, command)
    harmful: list[tuple[str, Any]] = [
        (f"{os.name}.system", Calls(os.system, command)),
        (f"{os.name}.system", {"experiment_state": inner}),
        ("builtins.eval", Calls(eval, f"open({str(flag)!r}, 'w')")),
        ("builtins.getattr", Calls(getattr, "", "join")),
        ("functools.partial", partial),
        (f"{open.__module__}.open", Calls(open, str(flag), "w")),  # its module has another name in 3.12
        ("numpy.memmap", Calls(np.memmap, str(flag), "u1", "w+", 0, 4)),
        ("pathlib", Path("a")),
    ]
    pickles = [(name, pickle.dumps(thing, protocol)) for name, thing in harmful for protocol in (3, 4, 5)]
    old = {"builtins": "__builtin__"}
    for name, thing in harmful[:6]:
        first, rest = name.split(".")
        pickles.append((f"{old.get(first, first)}.{rest}", pickle.dumps(thing, 2)))
    text = str(flag)
    return [
        *pickles,
        ("os.system", b"cos\nsystem\n(S'touch " + text.encode() + b"'\ntR."),
        ("os.system", b"(S'touch " + text.encode() + b"'\nios\nsystem\n."),  # INST
        ("os.system", b"\x80\x02(cos\nsystem\nX" + counted(command) + b"o."),  # OBJ
        ("os.system", b"\x80\x04" + dilled("os", "system") + b"X" + counted(command) + b"\x85R."),
        ("builtins.eval", b"\x80\x04" + dilled("builtins", "eval") + b"."),
        ("byol.weights.pickled._ADMITTED", b"cbyol.weights.pickled\n_ADMITTED\n."),
        ("numpy.ndarray.tofile", b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93."),
        ("copyreg._reconstructor", pickle.dumps(Plain(), 1).replace(b"copy_reg", b"copyreg")),
    ]


class Plain:
    pass


def counted(text: str) -> bytes:
    return len(text).to_bytes(4, "little") + text.encode()


def dilled(module: str, name: str) -> bytes:
    """A name through dill's functions, as dill 0.3 writes those in C."""
    get, load_module = b"cdill._dill\n_get_attr\n", b"cdill._dill\n_import_module\n"
    return get + load_module + b"X" + counted(module) + b"\x85RX" + counted(name) + b"\x86R"


def test_a_pickle_that_needs_more_than_arrays_is_refused_by_name_and_not_run(tmp_path: Path) -> None:
    flag, file = tmp_path / "flag", tmp_path / "harmful.pkl"
    for name, content in touched(flag):
        file.write_bytes(content)
        with pytest.raises(UserError, match=rf"harmful.pkl needs {name}.*, which may run code") as caught:
            import_official(file, tmp_path / "run")
        assert str(caught.value).endswith("admits only NumPy arrays of numbers and plain containers.")
        assert not flag.exists()
        assert not (tmp_path / "run").exists()


def test_an_array_of_objects_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "objects.pkl"
    records = np.zeros(2, [("a", object)])
    for protocol in (2, 3, 4, 5):
        for array in (np.array([{}, []], object), records, np.array(["a"]), np.array([1j])):
            tree = {"res_net18/~/initial_conv": {"w": array}}
            file.write_bytes(pickle.dumps({"online_params": tree, "online_state": {}}, protocol))
            with pytest.raises(UserError, match=r"objects.pkl needs numpy.dtype of (O8|V8|U1|c16), which"):
                import_official(file, tmp_path / "run")


def test_a_pickle_cannot_change_what_stands_in(tmp_path: Path) -> None:
    file = tmp_path / "changes.pkl"
    for name in (b"numpy\nndarray", b"_codecs\nencode", b"byol.byol_experiment\n_ByolExperimentState"):
        for change in (b"}X\x01\x00\x00\x00aK\x01s", b"N}X\x01\x00\x00\x00aK\x01s\x86"):
            file.write_bytes(b"\x80\x02c" + name + b"\n" + change + b"b.")
            with pytest.raises(UserError, match="needs to change a"):
                import_official(file, tmp_path / "run")


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}r\xff\xff\xff\x7f.",  # two thousand million places in the memo
        b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little"),  # 1 TiB of bytes
        b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little"),  # and of a bytearray
        pickle.dumps(
            Calls(np.zeros(1).__reduce__()[0], np.ndarray, (1 << 40,), b"b"), 2
        ),  # an array of 1 TiB
    ],
    ids=["memo", "bytes", "bytearray", "array"],
)
def test_a_small_file_takes_no_memory_that_it_does_not_fill(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "bomb.pkl"
    file.write_bytes(content)
    started = time.perf_counter()
    with pytest.raises(UserError):
        import_official(file, tmp_path / "run")
    assert time.perf_counter() - started < 5


def test_a_shape_needs_as_many_numbers(tmp_path: Path) -> None:
    file = tmp_path / "shapes.pkl"
    for shape in ((3,), (1 << 40,), (-2,), ("a",), None, 5):
        array = Calls(Array, shape)
        file.write_bytes(pickle.dumps({"online_params": {"a": {"b": array}}, "online_state": {}}, 3))
        file.write_bytes(file.read_bytes().replace(f"{__name__}\nArray".encode(), b"numpy\nndarray"))
        with pytest.raises(UserError, match=r"damaged|holds no array at a b"):
            import_official(file, tmp_path / "run")


class Array:
    """Pickled as an array of two numbers whose shape says something else."""

    def __init__(self, shape: Any) -> None:
        self.shape = shape

    def __getstate__(self) -> Any:
        return 1, self.shape, np.dtype("f4"), False, bytes(8)


def test_a_truncated_or_foreign_file_is_told_in_one_sentence(
    dump: Callable[..., Path], tmp_path: Path
) -> None:
    params: Tree = {"res_net18/~/initial_conv": {"w": np.ones((1, 1, 3, 2), np.float32)}}
    whole, file = dump(params, {}).read_bytes(), tmp_path / "part.pkl"
    parts = [part for end in range(len(whole)) if not (part := whole[:end]).endswith(b".")]  # not in a name
    for content in [*parts, b"not a pickle", b"not a pickle.", b"\x00" * 64, b"PK\x03\x04"]:
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"part.pkl is not a pickle, or it is damaged; fetch it again"):
            import_official(file, tmp_path / "run")
    with pytest.raises(UserError, match=r"absent.pkl cannot be read: No such file"):
        import_official(tmp_path / "absent.pkl", tmp_path / "run")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        import_official(tmp_path, tmp_path / "run")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds no online_params and online_state"),
        ({"experiment_state": {"online_params": {}}}, "holds no online_params and online_state"),
        ({"online_params": [], "online_state": {}}, "parameters without names"),
        ({"online_params": {"a": {1: 2}}, "online_state": {}}, "parameters without names"),
        ({"online_params": {"a": {"b": "c"}}, "online_state": {}}, "holds no array at a b"),
    ],
)
def test_another_content_is_told_in_one_sentence(content: Any, message: str, tmp_path: Path) -> None:
    file = tmp_path / "other.pkl"
    file.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=message):
        import_official(file, tmp_path / "run")


def test_only_an_empty_folder_is_written_and_overwriting_replaces_two_files(tmp_path: Path) -> None:
    file, run = tmp_path / "plain.pkl", tmp_path / "run"
    params, state, _ = constant_trees(18, 1)
    file.write_bytes(pickle.dumps({"online_params": params, "online_state": state}))
    run.mkdir()
    import_official(file, run)
    (run / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"run is not empty; .* --overwrite"):
        import_official(file, run)
    (run / "encoder.safetensors").write_text("old")
    import_official(file, run, overwrite=True)
    load(run)
    assert {path.name for path in run.iterdir()} == {"encoder.safetensors", "provenance.json", "mine.txt"}
    with pytest.raises(UserError, match=r"plain.pkl is a file; choose another --out"):
        import_official(file, file, overwrite=True)


def test_preparing_keeps_the_official_share_of_the_central_square(tmp_path: Path) -> None:
    params, state, _ = constant_trees(18, 1)
    file = tmp_path / "plain.pkl"
    file.write_bytes(pickle.dumps({"online_params": params, "online_state": state}))
    import_official(file, tmp_path / "run")
    pretrained = load(tmp_path / "run")
    how = pretrained.preprocessing
    assert (how.size, how.fraction) == (224, 0.875)
    assert (how.mean, how.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    images = torch.randint(0, 256, (2, 3, 50, 41), dtype=torch.uint8)
    side = 35  # floor(0.875 * 41)
    cut = images[:, :, 7 : 7 + side, 3 : 3 + side]
    whole = save_and_load(tmp_path / "whole.safetensors", 224)
    assert torch.equal(how.prepare(images), whole.preprocessing.prepare(cut))
    assert torch.equal(how.read(InMemory(images), np.arange(2))[0], how.prepare(images))


def save_and_load(path: Path, size: int, **more: Any) -> Any:
    spec = ConvNet(widths=(4,))
    save_encoder(path, spec.build(), spec, Preprocessing(size=size, **more))
    return load(path)


def test_an_encoder_from_before_fractions_keeps_the_whole_square(tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    path = tmp_path / "encoder.safetensors"
    save_and_load(path, 8)
    with safe_open(path, "pt") as opened:
        metadata = opened.metadata()
    del metadata["digest"]  # there was none then
    preprocessing = json.loads(metadata["preprocessing"])
    del preprocessing["crop_share"]
    save_file(load_file(path), path, metadata | {"preprocessing": json.dumps(preprocessing)})
    assert load(path).preprocessing.fraction == 1.0


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5])
def test_a_fraction_outside_its_range_is_refused(fraction: float, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"fraction is {fraction}; choose a fraction in \(0, 1\]"):
        save_and_load(tmp_path / "encoder.safetensors", 8, fraction=fraction)


def test_knn_sees_the_fraction_too(tmp_path: Path, thumbnails: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_and_load(tmp_path / "encoder.safetensors", 8, fraction=0.5)
    fractions, squares = [], InMemory.squares

    def watched(self: InMemory, index: Any, size: int, fraction: float = 1.0) -> Any:
        fractions.append(fraction)
        return squares(self, index, size, fraction)

    monkeypatch.setattr(InMemory, "squares", watched)
    judge(tmp_path / "encoder.safetensors", str(thumbnails), protocol=Knn(k=2))
    assert set(fractions) == {0.5}
