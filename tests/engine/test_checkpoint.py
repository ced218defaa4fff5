import os

import pytest
import torch
from torch import nn

from tsdd_d2.engine.checkpoint import TSDDCheckpointer, load_trained_weights, read_checkpoint, require_resumable
from tsdd_d2.errors import InputError


def test_roundtrip_and_tag(tmp_path):
    model = nn.Linear(2, 1)
    TSDDCheckpointer(model, str(tmp_path)).save("model_0000001", iteration=1)
    other = nn.Linear(2, 1)
    extra = TSDDCheckpointer(other, str(tmp_path)).resume_or_load("", resume=True)
    assert torch.equal(other.weight, model.weight) and extra == {"iteration": 1}
    assert sorted(os.listdir(tmp_path)) == ["last_checkpoint", "model_0000001.pth"]


def test_weights_kept_for_their_own_sake_are_not_resumed_from(tmp_path):
    TSDDCheckpointer(nn.Linear(2, 1), str(tmp_path), resumable=False).save("model_best")
    assert os.listdir(tmp_path) == ["model_best.pth"]


def test_the_last_two_numbered_checkpoints_are_kept_whoever_wrote_them(tmp_path):
    """Also those of before an interruption, of which the hook that writes them knows nothing."""
    for name in ("model_round_00", "model_0000002", "model_0000005"):
        TSDDCheckpointer(nn.Linear(2, 1), str(tmp_path)).save(name)
    TSDDCheckpointer(nn.Linear(2, 1), str(tmp_path)).save("model_0000008")
    assert sorted(os.listdir(tmp_path)) == [
        "last_checkpoint",
        "model_0000005.pth",
        "model_0000008.pth",
        "model_round_00.pth",
    ]


def test_a_failed_or_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    model = nn.Linear(2, 1)
    checkpointer = TSDDCheckpointer(model, str(tmp_path))
    checkpointer.save("model")
    before = (tmp_path / "model.pth").read_bytes()
    with pytest.raises(Exception):
        checkpointer.save("model", unpicklable=lambda: None)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tsdd_d2.data.files.os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        checkpointer.save("model")
    assert (tmp_path / "model.pth").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["last_checkpoint", "model.pth"]


def test_another_architecture_names_the_keys(tmp_path):
    TSDDCheckpointer(nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1)), str(tmp_path)).save("model")
    with pytest.raises(InputError) as error:
        TSDDCheckpointer(nn.Sequential(nn.Linear(3, 1))).load(str(tmp_path / "model.pth"))
    message = str(error.value)
    assert "not in the network: 1.weight" in message
    assert "0.weight ((1, 2) in the checkpoint, (1, 3) in the network)" in message


def test_only_tensors_are_unpickled(tmp_path):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"model": Payload()}, tmp_path / "model.pth")
    with pytest.raises(InputError, match="[Ww]eights"):
        TSDDCheckpointer(nn.Linear(2, 1)).load(str(tmp_path / "model.pth"))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "content", [b"", b"PK nothing of the kind", b"a text\n", b"\x80\x02.", b"\x80\x05K\x01.", b"(lp0\n"]
)
def test_a_damaged_checkpoint_is_named(tmp_path, content):
    (tmp_path / "model.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"model\.pth"):
        TSDDCheckpointer(nn.Linear(2, 1)).load(str(tmp_path / "model.pth"))


def test_a_damaged_last_checkpoint_names_an_older_one(tmp_path):
    checkpointer = TSDDCheckpointer(nn.Linear(2, 1), str(tmp_path))
    for name in ("model_0000001", "model_0000003"):
        checkpointer.save(name)
    path = tmp_path / "model_0000003.pth"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"model_0000003\.pth .*last_checkpoint \(model_0000001\.pth\)"):
        checkpointer.load(checkpointer.get_checkpoint_file())


@pytest.mark.parametrize("content", [3, [1], {"model": 3}, {"model": {"weight": 1}}, {"model": {3: torch.zeros(1)}}])
def test_a_file_without_weights_is_no_checkpoint(tmp_path, content):
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(InputError, match=r"model\.pth"):
        read_checkpoint(str(tmp_path / "model.pth"))


@pytest.mark.parametrize("tag", [b"", b"\xff\xfe", b"model_9999999.pth", b"../model.pth", b"\0", b"a" * 5000])
def test_a_last_checkpoint_that_names_no_file_is_named(tmp_path, tag):
    TSDDCheckpointer(nn.Linear(2, 1), str(tmp_path / "run")).save("model_0000001")
    (tmp_path / "run" / "last_checkpoint").write_bytes(tag)
    with pytest.raises(InputError, match=r"(?s)last_checkpoint .*model_0000001\.pth"):
        TSDDCheckpointer(nn.Linear(2, 1), str(tmp_path / "run")).get_checkpoint_file()


def test_weights_that_are_no_numbers_are_not_evaluated(tmp_path, tiny_cfg):
    model = nn.Linear(2, 1)
    model.weight.data[0, 0] = float("nan")
    TSDDCheckpointer(model, str(tmp_path)).save("model")
    tiny_cfg.MODEL.WEIGHTS = str(tmp_path / "model.pth")
    with pytest.raises(InputError, match=r"model\.pth"):
        load_trained_weights(nn.Linear(2, 1), tiny_cfg, resume=False)


def test_training_goes_on_from_an_iteration_alone(tmp_path):
    TSDDCheckpointer(nn.Linear(2, 1), str(tmp_path)).save("model", trainer={"iteration": 3})
    require_resumable(str(tmp_path / "model.pth"))
    for trainer in (3, {}, {"iteration": "3"}, {"iteration": -1}):
        TSDDCheckpointer(nn.Linear(2, 1), str(tmp_path)).save("model", trainer=trainer)
        with pytest.raises(InputError, match=r"model\.pth"):
            require_resumable(str(tmp_path / "model.pth"))
