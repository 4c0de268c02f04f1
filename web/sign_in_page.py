"""What the sign-in page says. Pure."""

from dataclasses import dataclass

from web import links


@dataclass(frozen=True, slots=True)
class SignInPage:
    """`back`: where to go once signed in; `problem`: why it was not possible."""

    title: str
    refresh_s: int | None
    action: str
    back: str
    name: str
    problem: str


def sign_in_page(back: str, name: str = "", problem: str = "") -> SignInPage:
    return SignInPage("Sign in", None, links.SIGN_IN, back, name, problem)
