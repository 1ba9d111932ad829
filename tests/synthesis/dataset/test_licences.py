import pytest

from jaxcil.synthesis.dataset.licences import header_fields, model_licence


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("---\nlicense: creativeml-openrail-m\ntags:\n- a\n---\n# A model\n", "creativeml-openrail-m"),
        ("---\ntags:\n- a\n---\n", None),
        ("# A model without a header\n", None),
        ("---\nlicense: [a, b\n---\n", None),
        ("---\nlicense:\n- mit\n- other\n---\n", None),
        ("---\n- a\n---\n", None),
    ],
    ids=["said", "not-said", "no-header", "no-yaml", "several", "list"],
)
def test_a_models_card_gives_its_licence_or_none(text, licence, tmp_path):
    (tmp_path / "README.md").write_text(text)
    assert model_licence(tmp_path) == licence


@pytest.mark.parametrize("model", ["digits", "owner/model"])
def test_a_model_that_is_no_folder_here_has_none(model):
    assert model_licence(model) is None


def test_only_identifiers_stand_in_the_field_of_the_hub():
    assert header_fields("apache-2.0", "x") == {"license": "apache-2.0"}
    assert header_fields("CC BY 4.0", "x") == {"license": "other", "license_name": "CC BY 4.0"}
    assert header_fields(None, "x") == {"license": "other", "license_name": "x"}
