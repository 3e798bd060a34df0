"""skill: the skills there are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from agentos_jupyter.microkernel.sessions import Caller
from agentos_jupyter.microkernel.table import Empty, Shape, namespace

if TYPE_CHECKING:
    from agentos_jupyter.microkernel.kernel import Microkernel


class SkillInfo(Shape):
    name: str
    description: str
    folder: str
    digest: str
    service: bool
    running: bool


class SkillList(Shape):
    skills: list[SkillInfo]


async def list_(kernel: Microkernel, caller: Caller, params: Empty) -> SkillList:
    """The shipped skills; `running` says whether the service is up."""
    return SkillList(
        skills=[
            SkillInfo(
                name=skill.name,
                description=skill.description,
                folder=os.fspath(skill.folder),
                digest=skill.digest,
                service=skill.service is not None,
                running=kernel.services.running(skill.name),
            )
            for skill in kernel.skills.values()
        ]
    )


CALLS = namespace("skill", reads=(list_,))
