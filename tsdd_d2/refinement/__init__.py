from .history import complete_annotation, round_history
from .hook import CandidateSelectionHook, RoundSchedule
from .roi_bank import ROIBank
from .rounds import refine_rois, score_all_candidates
from .selection import SELECTION_RULE_REGISTRY, ROISlots, Selection, build_selection_rule, select_rois
from .vetoes import apply_veto_file, apply_vetoes, read_vetoes, veto
