import parsers


def test_public_names_are_exactly_these():
    assert parsers.__all__ == [
        "AnswerError",
        "Code",
        "DatasetError",
        "InputError",
        "LexisegError",
        "MatchResult",
        "MissingPackageError",
        "ModelError",
        "NameList",
        "ObjectPrior",
        "OutputError",
        "Provenance",
        "RelationPrior",
        "ScenePriors",
        "SettingError",
        "Vocabulary",
        "VocabularyClass",
        "VocabularyDiff",
        "VocabularyError",
        "parse_scene",
        "parse_scenes",
        "priors_from_facts",
        "read_clusters",
        "read_model",
        "read_names",
        "read_text",
    ]
    assert all(hasattr(parsers, name) for name in parsers.__all__)
