"""TensorBoard's files, read back."""

import pytest

from zojax import logging

tensorboardX = pytest.importorskip("tensorboardX")


def read(folder):
    """(step, tag, value) of all event files, by name; and the first steps of continued ones."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.record_writer import masked_crc32c

    points, starts = [], []
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        data = path.read_bytes()
        while data:  # length, its checksum, record, its checksum
            size = int.from_bytes(data[:8], "little")
            record, data = data[12 : 12 + size], data[16 + size :]
            assert masked_crc32c(record) or not record
            event = Event.FromString(record)
            if event.session_log.status == SessionLog.START:
                starts.append(event.step)
            points += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
    return points, starts


def test_tensorboard_has_the_scalars_and_hides_what_a_continued_run_repeats(tmp_path):
    for begin in (1, 3):
        with logging.tensorboard(tmp_path) as log:
            for step in range(begin, 5):
                log.write(step, {"loss": 0.5 * step, "accuracy": 1.0})
    points, starts = read(tmp_path)
    steps = [1, 2, 3, 4, 3, 4]
    assert [p for p in points if p[1] == "loss"] == [(step, "loss", 0.5 * step) for step in steps]
    assert len(points) == 12 and starts[-1] == 3
