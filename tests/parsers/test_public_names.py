import parsers


def test_public_names_are_exactly_these():
    assert parsers.__all__ == [
        "Code",
        "DatasetError",
        "InputError",
        "LexisegError",
        "MissingPackageError",
        "ModelError",
        "ObjectPrior",
        "OutputError",
        "Provenance",
        "RelationPrior",
        "ScenePriors",
        "SettingError",
        "Vocabulary",
        "VocabularyClass",
        "VocabularyError",
        "parse_scene",
        "parse_scenes",
        "priors_from_facts",
    ]
    assert all(hasattr(parsers, name) for name in parsers.__all__)
