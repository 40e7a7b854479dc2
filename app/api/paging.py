"""How every list is cut: newest first, by keyset, at constant cost."""

from typing import Annotated

from fastapi import Depends, Query

from app.services.rows import Cut

_Limit = Annotated[int, Query(ge=1, le=100, description="items of a page")]
_After = Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before")]


async def _cut(limit: _Limit = 20, after: _After = None) -> Cut:
    return Cut(limit, after)


Paged = Annotated[Cut, Depends(_cut)]
