"""Groups of errors are read as the single errors they hold."""

from piker.errors import innermost, leaves


def test_leaves_are_the_single_errors_of_nested_groups():
    a, b = OSError("a"), ValueError("b")
    assert list(leaves(BaseExceptionGroup("", [BaseExceptionGroup("", [a]), b]))) == [a, b]
    assert list(leaves(a)) == [a]
    assert innermost(BaseExceptionGroup("", [BaseExceptionGroup("", [a]), b])) is a
