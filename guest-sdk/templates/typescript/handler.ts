// Says whether a room is too hot, and counts the readings of each device.

import { config, json, message, reject, state } from './sandbar/sandbar.js';
import type { Output, Reading } from './sandbar/sandbar.js';

let limit = 30;

export function configure(): void {
  limit = config.number('limit', 30);
}

export function handle(reading: Reading): Output[] {
  const { temperature } = json<{ temperature?: unknown }>(reading);
  if (typeof temperature !== 'number') throw reject('the payload has no number `temperature`');
  // Of this device: state belongs to the reading's key.
  const readings = (state.get<number>('readings') ?? 0) + 1;
  state.set('readings', readings);
  return [message(`${reading.topic}/checked`, { temperature, hot: temperature > limit, readings })];
}
