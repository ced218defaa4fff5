"""Self-distillation with soft targets, an option beside the hard labels of Eq. (5)."""

from torch import Tensor
from torch.nn import functional as F


def soft_target_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of the student from the teacher's softened classes (arXiv:1503.02531, section 2).

    Args:
        student_logits, teacher_logits: (R, classes); no gradient flows into the teacher.
    Returns:
        (R,) ``T^2 KL(softmax(teacher / T) || softmax(student / T))``; the factor keeps the gradient's size when T changes.
    """
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits.detach() / temperature, dim=1)
    divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1)
    return divergence * temperature**2
