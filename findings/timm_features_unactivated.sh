#!/usr/bin/env bash
# timm (1.0.31): features_only=True gives the features of some networks after their activation, and of others before it. None of
# ResNet's, RegNet's or HRNet's is negative; about half of EfficientNet's, MobileNet's and ConvNeXt's are, at every level, since
# these stages end in a linear layer; of DenseNet's last level none is, and of the one before half are. feature_info does not
# tell which. A detection head does not mind. What takes features for evidence that is there or not (class activation maps,
# non-negative factors, cosines between places) becomes something else with another backbone name.
# Seen: efficientnet_lite0 0.41 to 0.52, mobilenetv3_small_050 0.34 to 0.54, convnext_atto 0.50 to 0.53, densenet121 0.0, 0.41,
# 0.56, 0.48, 0.0, the others 0.0 at all levels (shares of negative values, random weights).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.14.1 torchvision==0.29.1 timm==1.0.31 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'END'
import timm
import torch

torch.manual_seed(0)
image = torch.rand(1, 3, 96, 96)
negative, keys = {}, set()
for name in (
    "resnet18", "regnety_002", "hrnet_w18_small", "efficientnet_lite0", "mobilenetv3_small_050", "convnext_atto", "densenet121"
):
    network = timm.create_model(name, features_only=True).eval()
    keys |= {key for level in network.feature_info.get_dicts() for key in level}
    with torch.no_grad():
        negative[name] = [round(float((x < 0).float().mean()), 2) for x in network(image)]
    print(f"{name}: share of negative values by level {negative[name]}")
print("feature_info knows", sorted(keys))
assert all(set(negative[x]) == {0} for x in ("resnet18", "regnety_002", "hrnet_w18_small"))
assert all(min(negative[x]) > 0.25 for x in ("efficientnet_lite0", "mobilenetv3_small_050", "convnext_atto"))
assert negative["densenet121"][-1] == 0 < 0.25 < negative["densenet121"][-2]
assert not any("act" in x for x in keys)
END
