"""What must not work, one list a kind of attack."""

from tests.negative.cases.abuse import ABUSE
from tests.negative.cases.certificates import CERTIFICATES
from tests.negative.cases.claims import CLAIMS
from tests.negative.cases.edge import EDGE
from tests.negative.cases.keys import KEYS
from tests.negative.cases.local_users import LOCAL_USERS
from tests.negative.cases.owners import OWNERS
from tests.negative.cases.text import TEXT

CASES = (*CERTIFICATES, *KEYS, *TEXT, *CLAIMS, *OWNERS, *EDGE, *ABUSE, *LOCAL_USERS)
