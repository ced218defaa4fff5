import copy

import pytest

from tsdd_d2.data.files import write_json
from tsdd_d2.errors import InputError
from tsdd_d2.refinement import apply_veto_file, apply_vetoes, read_vetoes, refine_rois, select_rois, veto

from .test_rounds import bbui, image, roi, scored


def refined_data():
    """After a round: a refined ROI, a pseudo ROI and an untouched manual one."""
    return bbui(
        [image(1, 2), image(2, 1), image(3, 1)],
        [
            roi(1, 1, 2, [12, 10, 20, 20], roi_source="refined", manual_bbox=[10, 10, 20, 30], roi_round=1,
                roi_score=0.9, roi_score_before=0.5),
            roi(3, 3, 1, [5, 5, 10, 10]),
            roi(4, 2, 1, [30, 20, 30, 30], roi_source="pseudo", roi_round=1, roi_score=0.8),
        ],
    )  # fmt: skip


def vetoes_of(data, *annotation_ids):
    images = {x["id"]: x for x in data["images"]}
    return [veto(images[a["image_id"]], a) for a in data["annotations"] if a["id"] in annotation_ids]


def file_of(path, vetoes, data_set="clinic_train"):
    write_json(path, {"data_set": data_set, "run": "0123456789abcdef", "vetoes": vetoes})
    return str(path)


def test_a_vetoed_refined_roi_is_the_manual_one_and_locked():
    data = refined_data()
    untouched = copy.deepcopy(data)
    vetoes = vetoes_of(data, 1)
    result = apply_vetoes(data, vetoes)
    assert result["annotations"][0] == roi(1, 1, 2, [10, 10, 20, 30], roi_source="manual", locked=True)
    assert result["annotations"][1:] == data["annotations"][1:] and result["images"] == data["images"]
    assert result["info"]["vetoes"] == vetoes and data == untouched


def test_a_veto_is_of_the_lesion_that_was_reviewed(tmp_path):
    """Not of the other one of its image, where the two have changed their ids since."""
    (entry,) = vetoes_of(refined_data(), 1)
    assert entry["manual_bbox"] == [10, 10, 20, 30]
    other = bbui([image(1, 2)], [roi(2, 1, 2, [10, 10, 20, 30]), roi(1, 1, 2, [40, 10, 20, 30])])
    with pytest.raises(InputError, match="image 1 .*annotation 1"):
        apply_vetoes(other, [entry])
    older = {key: x for key, x in entry.items() if key != "manual_bbox"}
    assert apply_vetoes(other, [older])["annotations"][1]["locked"]
    with pytest.raises(InputError, match="manual_bbox"):
        read_vetoes(file_of(tmp_path / "vetoes.json", [{**entry, "manual_bbox": [1, 2]}]), "clinic_train")


def test_a_vetoed_pseudo_roi_is_gone_and_no_round_gives_another():
    data = refined_data()
    result = apply_vetoes(data, vetoes_of(data, 4))
    assert [a["id"] for a in result["annotations"]] == [1, 3]
    assert result["images"][1] == {**image(2, 1), "roi_veto": True}
    results = {
        1: scored([[0, 0, 20, 20]], [0.1], [0.9]),
        2: scored([[30, 20, 60, 50]], [0.01]),
        3: scored([[5, 5, 15, 15]], [0.9], [0.1]),
    }
    after, statistics = refine_rois(result, results, select_rois, round_number=2, num_candidates=1)
    assert [a["id"] for a in after["annotations"]] == [1, 3] and statistics.replaced_pa == 0


def test_a_pseudo_roi_of_another_run_is_as_unreviewed():
    data = refined_data()
    (entry,) = vetoes_of(data, 4)
    result = apply_vetoes(data, [{**entry, "annotation_id": 17}])
    assert [a["id"] for a in result["annotations"]] == [1, 3] and result["images"][1]["roi_veto"]


def test_before_the_first_round_of_a_new_run():
    # Image 2 has a manual ROI in the data set's own file, and with it the id that the pseudo ROI of the reviewed
    # run, which kept fewer ROIs, has on another image.
    reviewed = refined_data()
    data = bbui(
        reviewed["images"],
        [roi(1, 1, 2, [10, 10, 20, 30]), roi(3, 3, 1, [5, 5, 10, 10]), roi(4, 2, 1, [7, 7, 9, 9])],
    )
    result = apply_vetoes(data, vetoes_of(reviewed, 1, 4))
    assert result["annotations"][0] == roi(1, 1, 2, [10, 10, 20, 30], roi_source="manual", locked=True)
    assert result["annotations"][1:] == data["annotations"][1:]  # a manual ROI simply stays
    assert result["images"][1]["roi_veto"]


def test_vetoes_of_several_reviews_add_up():
    data = refined_data()
    first, second = vetoes_of(data, 1), vetoes_of(data, 4)
    once = apply_vetoes(data, first)
    twice = apply_vetoes(once, first + second)
    assert twice["info"]["vetoes"] == first + second
    assert twice == apply_vetoes(data, first + second)


def test_a_veto_that_is_twice_in_the_file_is_listed_once():
    data = refined_data()
    first, second = vetoes_of(data, 1, 4)
    assert apply_vetoes(data, [first, second, dict(first)])["info"]["vetoes"] == [first, second]


def test_vetoes_that_do_not_fit_are_all_named():
    data = refined_data()
    (refined, pseudo) = vetoes_of(data, 1, 4)
    wrong = [
        {**refined, "image_id": 9},
        {**pseudo, "file_name": "other.png"},
        {**refined, "annotation_id": 3},  # of another image
        {**refined, "image_id": 2, "file_name": "2.png", "annotation_id": 4},  # no manual ROI
        refined,
    ]
    with pytest.raises(InputError) as error:
        apply_vetoes(data, wrong, "The vetoes in review.json")
    headline, *problems = str(error.value).splitlines()
    assert headline.startswith("The vetoes in review.json: 4 of them")
    for problem, words in zip(problems, ("image 9", "other.png", "annotation 3", "annotation 4"), strict=True):
        assert words in problem


def test_the_file_is_applied_and_an_empty_path_is_none(tmp_path):
    data = refined_data()
    vetoes = vetoes_of(data, 1, 4)
    path = file_of(tmp_path / "vetoes.json", vetoes)
    assert apply_veto_file(data, path, "clinic_train") == apply_vetoes(data, vetoes)
    assert apply_veto_file(data, "", "clinic_train") is data
    with pytest.raises(InputError, match=r"vetoes\.json: 2 of them do not fit.*\n.*image 1 "):
        apply_veto_file(bbui([image(5, 1)], []), path, "clinic_train")


@pytest.mark.parametrize(
    "content, words",
    [
        (None, "does not exist"),
        ([], "no veto file"),
        ({"vetoes": []}, "no veto file"),
        ({"data_set": "other_train", "vetoes": []}, "'other_train', not for 'clinic_train'"),
        ({"data_set": "clinic_train", "vetoes": ["x"]}, "entry 1: must be a JSON object"),
        ({"data_set": "clinic_train", "vetoes": [{"image_id": "1"}]}, "'image_id' must be an integer"),
        ({"data_set": "clinic_train", "vetoes": [vetoes_of(refined_data(), 1)[0] | {"roi_source": "manual"}]},
         "'roi_source' must be refined or pseudo"),
    ],
)  # fmt: skip
def test_what_is_no_veto_file_of_the_data_set(content, words, tmp_path):
    path = tmp_path / "vetoes.json"
    if content is not None:
        write_json(path, content)
    with pytest.raises(InputError, match=words) as error:
        read_vetoes(str(path), "clinic_train")
    assert str(path) in str(error.value)


def test_a_veto_file_that_is_no_json(tmp_path):
    (tmp_path / "vetoes.json").write_text("{")
    with pytest.raises(InputError, match=r"vetoes\.json is not a JSON file"):
        read_vetoes(str(tmp_path / "vetoes.json"), "clinic_train")
