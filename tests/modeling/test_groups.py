import pytest
import torch

from tsdd_d2.modeling.groups import fa_and_pa_terms

LOSSES = torch.tensor([1.0, 2.0, 4.0, 6.0, 8.0, 3.0])
IS_PA = torch.tensor([False, True, True, True, True, False])


def test_each_half_is_averaged_over_its_own_members():
    terms = fa_and_pa_terms("loss", LOSSES, IS_PA, 0.5)
    assert terms == {"loss_fa": pytest.approx((1 + 3) / 2), "loss_pa": pytest.approx(0.5 * (2 + 4 + 6 + 8) / 4)}
    assert fa_and_pa_terms("loss", LOSSES[:1], IS_PA[:1], 0.5)["loss_pa"] == 0


@pytest.mark.parametrize("split", [1, 3, 5])
def test_the_mean_over_two_processes_is_the_loss_of_one(split, monkeypatch):
    """Whatever images each of them has, one half of the groups among them."""
    of_processes = [(LOSSES[:split], IS_PA[:split]), (LOSSES[split:], IS_PA[split:])]
    monkeypatch.setattr("tsdd_d2.modeling.groups.comm.get_world_size", lambda: 2)
    means = {"loss_fa": 0.0, "loss_pa": 0.0}
    for losses, is_pa in of_processes:
        totals = iter([(~IS_PA).sum(), IS_PA.sum()])  # fa is counted first
        monkeypatch.setattr(torch.distributed, "all_reduce", lambda count: count.fill_(next(totals)))
        for name, term in fa_and_pa_terms("loss", losses, is_pa, 0.5).items():
            means[name] += float(term) / 2
    assert means == {"loss_fa": pytest.approx(2.0), "loss_pa": pytest.approx(2.5)}
