"""Groups of errors are read as the single errors they hold."""

from piker.ui.groups import leaves


def test_leaves_are_the_single_errors_of_nested_groups():
    a, b = OSError("a"), ValueError("b")
    assert list(leaves(BaseExceptionGroup("", [BaseExceptionGroup("", [a]), b]))) == [a, b]
    assert list(leaves(a)) == [a]
