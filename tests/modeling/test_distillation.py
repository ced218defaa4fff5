import math

import pytest
import torch

from tsdd_d2.modeling.distillation import soft_target_loss


def test_soft_targets_by_hand():
    """Temperature 2: the teacher says 3/4, 1/4, the student 1/2, 1/2."""
    teacher = torch.tensor([[2 * math.log(3.0), 0.0]], requires_grad=True)
    student = torch.tensor([[1.0, 1.0]], requires_grad=True)
    loss = soft_target_loss(student, teacher, temperature=2.0)
    divergence = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert loss.tolist() == pytest.approx([4 * divergence])
    loss.sum().backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0
