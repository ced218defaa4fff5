"""Checkpoints that are whole or not there, and that fit or are refused."""

import io
import os
import re
from typing import Any, Dict, List

import torch
from torch import nn

from detectron2.checkpoint import DetectionCheckpointer

from ..data.files import replacing, write_text
from ..errors import InputError
from ..modeling.weights import (
    how_to_name_weights,
    is_address,
    load_cnet,
    load_detector_backbone,
    load_strictly,
    misfits,
)
from .run_folder import FINAL_WEIGHTS, TAG

NUMBERED = re.compile(r"model_\d{7}\.pth")
KEPT_CHECKPOINTS = 2


class MisfitError(InputError):
    """A checkpoint is of another architecture than the network.

    Attributes:
        path: of the checkpoint.
    """

    path = ""


class TSDDCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, and beside it:

    * files are written to a temporary name and renamed (fvcore writes in place);
    * a checkpoint whose keys or shapes are not those of the network is an error (fvcore logs a warning);
    * nothing is unpickled but tensors and plain values (``weights_only=True``);
    * of the numbered checkpoints the last two are kept, whatever interrupted the training.
    """

    def __init__(self, model, save_dir: str = "", *, resumable: bool = True, **kwargs):
        """
        Args:
            resumable: whether ``--resume`` may go on from what this checkpointer saves. Weights kept for their own
                sake (the best ones, the ones before refinement) must not become the last checkpoint.
        """
        super().__init__(model, save_dir, **kwargs)
        self.resumable = resumable

    def save(self, name: str, **kwargs) -> None:
        if not self.save_dir or not self.save_to_disk:
            return
        data = {"model": self.model.state_dict()}
        data.update({key: obj.state_dict() for key, obj in self.checkpointables.items()})
        data.update(kwargs)
        path = os.path.join(self.save_dir, f"{name}.pth")
        self.logger.info("Saving checkpoint to %s", path)
        content = io.BytesIO()
        torch.save(data, content)  # not into the file: on a full disk torch says something else
        with replacing(path, "wb") as file:
            file.write(content.getbuffer())
        if self.resumable:
            self.tag_last_checkpoint(os.path.basename(path))
            self.remove_old()

    def remove_old(self) -> None:
        """Keeps the newest of the numbered checkpoints, those of before an interruption among them."""
        if not self.save_to_disk:
            return
        numbered = sorted(x for x in os.listdir(self.save_dir) if NUMBERED.fullmatch(x))
        for name in numbered[:-KEPT_CHECKPOINTS]:
            os.remove(os.path.join(self.save_dir, name))

    def load(self, path: str, checkpointables=None) -> Dict:
        """See :class:`DetectionCheckpointer`.

        Raises:
            InputError: a part of the checkpoint is missing, damaged, or of something else.
        """
        try:
            return super().load(path, checkpointables)
        except MisfitError as error:
            error.path = path
            raise
        except InputError:
            raise
        except Exception as error:  # whatever a hook or an optimiser makes of a state that is not its own
            reason = str(error).partition("\n")[0]
            raise InputError(
                f"The state of the training in {path} cannot be used: {type(error).__name__}: {reason}. Name another "
                f"checkpoint in {TAG}."
            ) from error

    def get_checkpoint_file(self) -> str:
        """The path of the last checkpoint, "" if there is none.

        Raises:
            InputError: the file that names it is damaged, or names one that is not there.
        """
        tag = os.path.join(self.save_dir, TAG)
        if not os.path.isfile(tag):
            return ""
        with open(tag, "rb") as file:
            name = file.read(1000).decode(errors="replace").strip()
        path = os.path.join(self.save_dir, name)
        if os.path.basename(name) == name and name.isprintable() and os.path.isfile(path):
            return path
        found = _checkpoints_in(self.save_dir)
        raise InputError(
            f"{tag} names {name!r}, which is no file there. Write the name of the checkpoint to go on from into it "
            f"({', '.join(found) or 'there is none'}), or remove it."
        )

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        write_text(os.path.join(self.save_dir, TAG), last_filename_basename)

    def _load_file(self, filename: str):
        if not filename.endswith(".pth"):
            raise InputError(f"{filename}: checkpoints of this project are .pth files.")
        content = super()._load_file(filename)
        if "layer1.0.conv1.weight" in content.get("model", content):
            raise InputError(
                f"{filename} holds a ResNet as torchvision saves it, and no network of this project. {how_to_name_weights()}"
            )
        return content

    def _torch_load(self, f):
        return read_checkpoint(f)

    def _load_model(self, checkpoint):
        found = super()._load_model(checkpoint)
        shapes = [f"{k} ({saved} in the checkpoint, {built} in the network)" for k, saved, built in found.incorrect_shapes]
        if found.missing_keys or found.unexpected_keys or shapes:
            raise MisfitError(
                misfits(
                    "The checkpoint is of another architecture than the configuration builds",
                    "checkpoint",
                    found.missing_keys,
                    found.unexpected_keys,
                    shapes,
                )
            )
        return found


def read_checkpoint(path: str) -> Dict:
    """The content of a ``.pth`` file, on the CPU; nothing but tensors and plain values is unpickled.

    Returns:
        a dict with at least "model", the weights by their names; of a file with nothing but weights, these.
    Raises:
        InputError: the file cannot be read, or holds no weights; the message names it.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler may raise anything on a damaged file
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"The checkpoint {path} cannot be read: it is none, or a damaged one ({type(error).__name__}: {reason})."
            f"{_others_to_go_on_from(path)}"
        ) from error
    if isinstance(content, dict) and "model" not in content:
        content = {"model": content}
    if not isinstance(content, dict) or not are_weights(content["model"]):
        raise InputError(f"{path} is no checkpoint: it holds no weights by their names.")
    return content


def _others_to_go_on_from(path: str) -> str:
    folder, name = os.path.split(path)
    if not os.path.isfile(os.path.join(folder, TAG)):
        return ""
    others = _checkpoints_in(folder, besides=name)
    return f" To go on from another one, write its name into {TAG} ({', '.join(others)})." if others else ""


def _checkpoints_in(folder: str, besides: str = "") -> List[str]:
    return sorted(x for x in os.listdir(folder) if x.endswith(".pth") and x != besides)


def are_weights(content: Any) -> bool:
    """Whether it is a dict from names to tensors."""
    return isinstance(content, dict) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
    )


def require_finite(model: nn.Module, path: str) -> None:
    """Raises InputError if a network has weights that are no numbers; `path` is where they come from."""
    if not all(x.isfinite().all() for x in model.state_dict().values()):
        raise InputError(f"{path}: some weights are not finite numbers; the training diverged.")


def load_weights(model, cfg) -> None:
    """Initialises a network as ``MODEL.WEIGHTS`` and ``MODEL.CNET.WEIGHTS`` say.

    ``MODEL.WEIGHTS`` is a checkpoint of the whole network, or pretrained weights for the backbone of D-Net or another
    detector, or ""; only in the last two cases is ``MODEL.CNET.WEIGHTS`` used.

    Raises:
        InputError: a file is missing or does not fit; the message names the keys.
    """
    path = cfg.MODEL.WEIGHTS
    if path and not is_address(path):
        if not os.path.isfile(path):
            raise InputError(f"MODEL.WEIGHTS: the checkpoint {path} does not exist.")
        TSDDCheckpointer(model).load(path, checkpointables=[])
        return
    if path:
        load_detector_backbone(getattr(model, "dnet", model), path)
    if cfg.MODEL.CNET.WEIGHTS:
        load_cnet(model.cnet, cfg.MODEL.CNET.WEIGHTS)


def load_trained_weights(model, cfg, resume: bool) -> str:
    """Loads the last checkpoint in OUTPUT_DIR where there is one and ``resume`` asks for it, else ``MODEL.WEIGHTS``.

    Returns:
        the path of the checkpoint.
    Raises:
        InputError: there is no such file.
        MisfitError: it does not fit; the message names keys.
    """
    checkpointer = TSDDCheckpointer(model, cfg.OUTPUT_DIR)
    path = (checkpointer.get_checkpoint_file() if resume else "") or cfg.MODEL.WEIGHTS
    if not os.path.isfile(path):
        raise InputError(
            f"MODEL.WEIGHTS {path!r} is no checkpoint. One is evaluated by --eval-only MODEL.WEIGHTS "
            f"{os.path.join(cfg.OUTPUT_DIR, FINAL_WEIGHTS)}, the last one of a run by --eval-only --resume OUTPUT_DIR "
            f"{cfg.OUTPUT_DIR}."
        )
    checkpointer.load(path, checkpointables=[])
    require_finite(model, path)
    return path


def require_resumable(path: str) -> None:
    """Raises InputError unless a checkpoint says which iteration training is to go on from."""
    trainer = read_checkpoint(path).get("trainer")
    iteration = trainer.get("iteration") if isinstance(trainer, dict) else None
    if type(iteration) is not int or iteration < 0:
        raise InputError(
            f"{path} holds weights alone, from which no training is resumed: remove {TAG}, or name another one there."
        )


def load_first_stage(model, run: str) -> None:
    """Initialises D-Net and C-Net of the second stage with the last weights of a first-stage run.

    C-Net's classifier stays behind (paper III.C: "the fully connection layer in C-Net is removed").

    Raises:
        InputError: the weights are missing or do not fit; the message names the keys.
    """
    path = os.path.join(run, FINAL_WEIGHTS)
    if not os.path.isfile(path):
        raise InputError(f"MODEL.WEIGHTS {run}: it has no {FINAL_WEIGHTS}.")
    state_dict = read_checkpoint(path)["model"]
    # a variant of the first stage may have more parts
    shared = {k: v for k, v in state_dict.items() if k.startswith(("dnet.", "cnet."))}
    weights = {k: v for k, v in shared.items() if not k.startswith("cnet.classifier.")}
    load_strictly(nn.ModuleDict({"dnet": model.dnet, "cnet": model.cnet}), weights, "MODEL.WEIGHTS", path)
