"""Says whether a room is too hot, and counts the readings of each device."""

import sandbar
import wit_world

# What `configure` finds out is kept here: each call has a `self` of its own.
limit = 30.0


class WitWorld(wit_world.WitWorld):
    def configure(self) -> None:
        global limit
        limit = sandbar.number("limit", limit)

    def handle(self, reading: sandbar.Reading) -> list[sandbar.Output]:
        payload = sandbar.json(reading)
        temperature = payload.get("temperature") if isinstance(payload, dict) else None
        if not isinstance(temperature, (int, float)):
            raise sandbar.reject("the payload has no number `temperature`")
        # Of this device: state belongs to the reading's key.
        readings = sandbar.state.get("readings", 0) + 1
        sandbar.state.set("readings", readings)
        checked = {"temperature": temperature, "hot": temperature > limit, "readings": readings}
        return [sandbar.message(f"{reading.topic}/checked", checked)]
