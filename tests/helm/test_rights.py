"""The chart's Roles give exactly the rights that the tests on a cluster show to be needed."""

import pytest

from support.charts import RELEASE, find, render
from support.rights import ACCOUNTS, rights_of


@pytest.mark.parametrize("account", ACCOUNTS)
def test_each_role_is_what_is_needed_and_no_more(account):
    given = rights_of(find(render({}), "Role", f"{RELEASE}-{account}"))
    assert len(given) == len(set(given))
    assert set(given) == ACCOUNTS[account]
