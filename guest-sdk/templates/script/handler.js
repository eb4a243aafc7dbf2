// Says whether a room is too hot, and counts the readings of each device.
// `config`, `json`, `message`, `reject`, `state` and the like are there: see docs/guides/scripts.md.

const limit = config.number('limit', 30);

function handle(reading) {
  const { temperature } = json(reading);
  if (typeof temperature !== 'number') throw reject('the payload has no number `temperature`');
  // Of this device: state belongs to the reading's key.
  const readings = (state.get('readings') ?? 0) + 1;
  state.set('readings', readings);
  return [message(`${reading.topic}/checked`, { temperature, hot: temperature > limit, readings })];
}
