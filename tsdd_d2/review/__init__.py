from .changes import ChangedROI, Replacement, changed_rois
from .page import review_page, write_review_page
