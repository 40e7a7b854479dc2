"""Sizes written as expressions (SymPy's `srepr`), which PyTorch hands to Python's `eval`."""

import ast
import re

from compression.errors import CompressionError

_SYMBOL = re.compile(r"(?:[suz]|zf|zuf)\d{1,9}", re.ASCII)
_DIGITS = re.compile(r"-?\d{1,40}(?:\.\d{0,40})?(?:e[+-]?\d{1,3})?", re.ASCII)
_LONGEST = 10_000
_LARGEST = 2**63
_LARGEST_POWER = 8
_NAMES = """
Add Mul Integer Rational Max Min Abs And Or Not floor ceiling Eq Ne Lt Le Gt Ge
Equality Unequality StrictGreaterThan GreaterThan StrictLessThan LessThan
FloorDiv ModularIndexing PythonMod Mod CleanDiv CeilDiv CeilToInt FloorToInt IntTrueDiv FloatTrueDiv
TruncToInt TruncToFloat RoundToInt ToFloat Identity Where
"""
_FUNCTIONS = frozenset(_NAMES.split())
"""Without powers and shifts of any size, whose results have as many digits as they like."""
_CONSTANTS = frozenset({"true", "false", "oo", "int_oo"})


def checked(text: str) -> str:
    """Errors: CompressionError `pt2_expr`."""
    try:
        tree = ast.parse(text[: _LONGEST + 1], mode="eval")
        plain = len(text) <= _LONGEST and _is_plain(tree.body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        plain = False
    if not plain:
        raise CompressionError(
            "pt2_expr", f"a size is written as {text[:80]!r}, which is no expression of sizes"
        )
    return text


def _is_plain(node: ast.expr) -> bool:
    match node:
        case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str(name))], keywords=assumed):
            return _SYMBOL.fullmatch(name) is not None and all(_is_flag(word) for word in assumed)
        case ast.Call(func=ast.Name(id="Float"), args=[ast.Constant(value=str(digits))], keywords=kept):
            return _DIGITS.fullmatch(digits) is not None and all(_is_flag(word) for word in kept)
        case ast.Call(func=ast.Name(id="Pow"), args=[base, power], keywords=[]):
            return _is_plain(base) and not _has_power(base) and _is_small(power)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            return name in _FUNCTIONS and all(_is_plain(argument) for argument in arguments)
        case ast.Name(id=name):
            return name in _CONSTANTS
    return _is_number(node, _LARGEST)


def _is_flag(word: ast.keyword) -> bool:
    """`positive=True`, `precision=53`."""
    return word.arg is not None and _is_number(word.value, 100)


def _is_small(power: ast.expr) -> bool:
    match power:
        case ast.Call(func=ast.Name(id="Integer"), args=[number], keywords=[]):
            return _is_number(number, _LARGEST_POWER)
    return False


def _has_power(base: ast.expr) -> bool:
    """A tower of powers of numbers would be computed, digit by digit."""
    return any(isinstance(node, ast.Name) and node.id == "Pow" for node in ast.walk(base))


def _is_number(node: ast.expr, largest: int) -> bool:
    match node:
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _is_number(operand, largest)
        case ast.Constant(value=int() | float() as value):
            return abs(value) <= largest
    return False
