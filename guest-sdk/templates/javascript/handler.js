// Says whether a room is too hot, and counts the readings of each device.

import { config, json, message, reject, state } from './sandbar/sandbar.js';

let limit;

export function configure() {
  limit = config.number('limit', 30);
}

export function handle(reading) {
  const { temperature } = json(reading);
  if (typeof temperature !== 'number') throw reject('the payload has no number `temperature`');
  // Of this device: state belongs to the reading's key.
  const readings = (state.get('readings') ?? 0) + 1;
  state.set('readings', readings);
  return [message(`${reading.topic}/checked`, { temperature, hot: temperature > limit, readings })];
}
