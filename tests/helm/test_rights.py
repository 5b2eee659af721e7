"""The chart's Roles give exactly the rights that the tests on a cluster show to be needed."""

import pytest

from support.charts import RELEASE, find, render
from support.rights import ACCOUNTS, SCRIPT, rights_of


@pytest.mark.parametrize("account", ACCOUNTS)
def test_each_role_is_what_is_needed_and_no_more(account):
    given = rights_of(find(render({}), "Role", f"{RELEASE}-{account}"))
    assert len(given) == len(set(given))
    assert set(given) == ACCOUNTS[account]


def test_secrets_are_made_only_where_scripts_are_allowed():
    spawn = {"images": ["a"], "scripts": "/data/s", "output": None, "packages": None, "pods": {"cpu": "p", "gpu": None}}
    for values, rights in (({}, set()), ({"profile": {"kubernetes": {"spawn": spawn}}}, set(SCRIPT))):
        given = set(rights_of(find(render(values), "Role", f"{RELEASE}-runner")))
        assert given == ACCOUNTS["runner"] | rights
