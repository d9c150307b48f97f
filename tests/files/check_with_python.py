#!/usr/bin/env python3
"""Reads, with the formats' reference readers, the files that l3's tests wrote, and writes files for l3 to read.

Called by python_readers_test.cpp:  check_with_python.py WHAT DIRECTORY
  npz            numpy reads arrays.npz, rows.npz, scalar.npy and matrix.npy, and compares bytes with its own writer
  safetensors    the reference package reads ours.safetensors and compares it, byte for byte, with its own writer
  make           the reference package writes theirs.safetensors
  events         TensorBoard reads the event files of the directory and compares bytes with its own writer
  golden         prints the bytes that safetensors_test.cpp and npz_test.cpp quote
  golden_events  prints those that event_file_test.cpp quotes

Exit status 77: numpy, safetensors or tensorboard is not installed.
"""

import io
import pathlib
import sys
import zipfile

try:
    if "events" in sys.argv[1]:
        from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter
    else:
        import numpy as np
    if sys.argv[1] in ("safetensors", "make", "golden"):
        import safetensors
        import safetensors.numpy
except ImportError as missing:
    print("SKIPPED:", missing)
    sys.exit(77)


def matrix():
    """The numbers the C++ test writes: exact in float32, unequal sides."""
    return (np.arange(15, dtype=np.float32) / 4 - 1).reshape(3, 5)


def npy_bytes(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def same_npy(found, array):
    """NumPy 1 pads headers in other ways from release to release, so bytes are compared with NumPy 2 only."""
    return found == npy_bytes(array) or np.__version__.startswith("1.")


def check_npz(directory):
    stamps = np.array([0.0, 0.1, 0.2])
    with np.load(directory / "arrays.npz") as archive:
        assert sorted(archive.files) == ["embedding", "timestamps"], archive.files
        assert archive["embedding"].dtype == np.float32 and archive["timestamps"].dtype == np.float64
        np.testing.assert_array_equal(archive["embedding"], matrix())
        np.testing.assert_array_equal(archive["timestamps"], stamps)
    with np.load(directory / "rows.npz") as archive:
        np.testing.assert_array_equal(archive["embedding"], matrix())
        assert archive["nothing"].shape == (0, 7)
    for file, array in [("scalar.npy", np.float64(2.5)), ("matrix.npy", matrix())]:
        np.testing.assert_array_equal(np.load(directory / file), array)
        assert same_npy((directory / file).read_bytes(), np.asarray(array)), file
    with zipfile.ZipFile(directory / "arrays.npz") as archive:
        assert archive.testzip() is None
        assert same_npy(archive.read("embedding.npy"), matrix())
        for member in archive.infolist():
            assert member.compress_type == zipfile.ZIP_STORED
            assert member.date_time == (1980, 1, 1, 0, 0, 0), member.date_time


def tensors():
    return {
        "b.weight": matrix(),
        "a \"quoted\" \u00e9": np.array([1.5, -0.0, np.inf], dtype=np.float32),
        "empty": np.zeros((0, 3), dtype=np.float32),
        "z.count": np.array(-(2**40), dtype=np.int64),
        "double": np.array([[0.1]], dtype=np.float64),
    }


def metadata():
    return {"l3.model": "paper \u00e9\n\"x\""}  # one key: the reference writer leaves the order of several open


def check_safetensors(directory):
    path = directory / "ours.safetensors"
    loaded = safetensors.numpy.load_file(path)
    assert loaded.keys() == tensors().keys(), loaded.keys()
    for name, expected in tensors().items():
        assert loaded[name].dtype == expected.dtype, name
        np.testing.assert_array_equal(loaded[name], expected)
    with safetensors.safe_open(path, framework="np") as opened:
        assert opened.metadata() == metadata(), opened.metadata()
    assert path.read_bytes() == safetensors.numpy.save(tensors(), metadata()), "other bytes than the reference's"


def make(directory):
    more = {"half": np.array([1, 2, 3], dtype=np.float16), "bytes": np.array([7, 8], dtype=np.uint8),
            "int32": np.array([-1], dtype=np.int32)}
    safetensors.numpy.save_file(tensors() | more, directory / "theirs.safetensors", metadata())


def golden(_):
    small = {"w": np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32), "n": np.array(7, dtype=np.int64)}
    print(safetensors.numpy.save(small, {"k": "v"}))
    print(npy_bytes(matrix()))


def event_bytes(next_step, values):
    """A file of events as TensorBoard writes it: `values` is a list of step, time and values by tag."""
    start = Event(wall_time=1.5, step=next_step, session_log=SessionLog(status=SessionLog.START))
    events = [Event(wall_time=1.5, file_version="brain.Event:2"), start]
    for step, time, of_step in values:
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in of_step.items()])
        events.append(Event(wall_time=time, step=step, summary=summary))
    out = io.BytesIO()
    writer = RecordWriter(out)
    for event in events:
        writer.write(event.SerializeToString())
    return out.getvalue()


def event_files():
    """What event_file_test.cpp writes: a training that saved step 20, went further, and was gone on with from there."""
    return {
        "events.out.tfevents.000000.l3": event_bytes(
            1, [(10, 2.5, {"loss/train": 0.75}), (20, 3.5, {"loss/train": 0.5, "learning_rate": 0.001}), (30, 4.5, {"loss/train": 8})]
        ),
        "events.out.tfevents.000001.l3": event_bytes(20, [(20, 5.5, {"loss/train": 0.5}), (30, 6.5, {"loss/train": 0.25})]),
    }


def check_events(directory):
    found = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert found == event_files(), "other bytes than TensorBoard's"
    runs = EventMultiplexer({"run": str(directory)}).Reload()
    loss = [(e.step, e.wall_time, e.tensor_proto.float_val[0]) for e in runs.Tensors("run", "loss/train")]
    assert loss == [(10, 2.5, 0.75), (20, 5.5, 0.5), (30, 6.5, 0.25)], loss


def golden_events(_):
    for name, data in event_files().items():
        print(name, data.hex())


if __name__ == "__main__":
    works = {"npz": check_npz, "safetensors": check_safetensors, "make": make, "events": check_events}
    works |= {"golden": golden, "golden_events": golden_events}
    works[sys.argv[1]](pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else "."))
