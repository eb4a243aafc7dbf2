// Reads InfluxDB's line protocol, as Telegraf and many devices send it, and passes on one JSON message a line. What
// it does is told in README.md.

import { config, message, reject, text } from '../../guest-sdk/sources/js/sandbar.js';
import type { Output, Reading } from '../../guest-sdk/sources/js/sandbar.js';

type Field = number | string | boolean;

interface Point {
  measurement: string;
  tags: Record<string, string>;
  fields: Record<string, Field>;
  time?: string;
}

/// Nanoseconds of a time stamp's unit.
const PRECISIONS: Record<string, bigint> = { ns: 1n, us: 1_000n, ms: 1_000_000n, s: 1_000_000_000n };

let precision = 1n;
let topic = 'influx/{measurement}';
let deviceTag = '';

export function configure(): void {
  const unit = config.get('precision', 'ns');
  if (!(unit in PRECISIONS)) throw `setting \`precision\` is "${unit}", none of ns, us, ms, s`;
  precision = PRECISIONS[unit];
  topic = config.get('topic', topic);
  deviceTag = config.get('device', '');
}

export function handle(reading: Reading): Output[] {
  const outputs: Output[] = [];
  text(reading).split('\n').forEach((line, index) => {
    const trimmed = line.trim();
    if (trimmed === '' || trimmed.startsWith('#')) return;
    const point = new Parser(trimmed, index + 1).point();
    const to = topic.replaceAll('{topic}', () => reading.topic).replaceAll('{measurement}', () => point.measurement.replace(/[+#\0]/g, '_'));
    outputs.push(message(to, point, { device: point.tags[deviceTag] }));
  });
  return outputs;
}

/// One line: `measurement[,tag=value…] field=value[,field=value…] [time]`.
class Parser {
  private at = 0;

  constructor(private readonly line: string, private readonly number: number) {}

  point(): Point {
    const measurement = this.name(', ');
    const tags: Record<string, string> = {};
    while (this.eat(',')) {
      const key = this.key('=, ');
      tags[key] = this.name(', ');
    }
    this.blanks('fields');
    const fields: Record<string, Field> = {};
    do {
      const key = this.key('=, ');
      fields[key] = this.line[this.at] === '"' ? this.quoted() : this.value(this.name(', '));
    } while (this.eat(','));
    const rest = this.line.slice(this.at).trim();
    if (rest === '') return { measurement, tags, fields };
    if (!/^-?\d+$/.test(rest)) throw this.wrong(`"${rest}" is no time`);
    return { measurement, tags, fields, time: this.time(BigInt(rest) * precision) };
  }

  private time(nanoseconds: bigint): string {
    const date = new Date(Number(nanoseconds / 1_000_000n));
    if (Number.isNaN(date.getTime())) throw this.wrong('its time is out of range');
    return date.toISOString();
  }

  private value(text: string): Field {
    if (/^(t|T|true|True|TRUE)$/.test(text)) return true;
    if (/^(f|F|false|False|FALSE)$/.test(text)) return false;
    const digits = /^(-?\d+)i$|^(\d+)u$/.exec(text);
    // What JSON's readers take for a whole number without losing digits; else as text.
    if (digits) {
      const whole = Number(digits[1] ?? digits[2]);
      return Number.isSafeInteger(whole) ? whole : (digits[1] ?? digits[2]);
    }
    if (!/^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text)) throw this.wrong(`"${text}" is no value`);
    return Number(text);
  }

  private key(ends: string): string {
    const key = this.name(ends);
    if (!this.eat('=')) throw this.wrong(`there is no = after "${key}"`);
    return key;
  }

  /// Up to one of `ends`; a backslash before one of them, or before =, makes it part of the name.
  private name(ends: string): string {
    let name = '';
    while (this.at < this.line.length && !ends.includes(this.line[this.at])) {
      if (this.line[this.at] === '\\' && ',= \\'.includes(this.line[this.at + 1] ?? '.')) this.at++;
      name += this.line[this.at++];
    }
    if (name === '') throw this.wrong(`there is nothing at character ${this.at + 1}`);
    return name;
  }

  private quoted(): string {
    let value = '';
    for (this.at++; this.at < this.line.length; this.at++) {
      const character = this.line[this.at];
      if (character === '"') {
        this.at++;
        return value;
      }
      if (character === '\\' && '"\\'.includes(this.line[this.at + 1] ?? '.')) this.at++;
      value += this.line[this.at];
    }
    throw this.wrong('a text does not end');
  }

  private blanks(what: string): void {
    if (!this.eat(' ')) throw this.wrong(`there are no ${what}`);
    while (this.eat(' '));
  }

  private eat(character: string): boolean {
    const is = this.line[this.at] === character;
    if (is) this.at++;
    return is;
  }

  private wrong(what: string) {
    return reject(`line ${this.number}: ${what}`);
  }
}
