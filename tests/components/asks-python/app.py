"""Does what its reading's payload says (`ask METHOD URL [BODY]`, `both URL URL`) and puts out what came of it."""

import sandbar
import wit_world


def said(answer) -> str:
    return answer.code if isinstance(answer, sandbar.HttpError) else f"{answer.status} {answer.text()}"


def ask(method: str, url: str, *body: str) -> str:
    try:
        return said(sandbar.fetch(url, method=method, headers={"X-Asks": "python"}, body=" ".join(body)))
    except sandbar.HttpError as error:
        return said(error)


class WitWorld(wit_world.WitWorld):
    def configure(self) -> None:
        pass

    def handle(self, reading: sandbar.Reading) -> list[sandbar.Output]:
        verb, *words = sandbar.text(reading).split(" ")
        if verb == "both":
            text = " | ".join(said(answer) for answer in sandbar.fetch_all([sandbar.request(url) for url in words]))
        elif verb == "uncaught":
            text = said(sandbar.fetch(words[0]))
        else:
            text = ask(*words)
        return [sandbar.message(f"did/{verb}", text)]
