/** datetime.strftime in English, whatever the machine's language: models were trained with these names. */

const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];
const MONTHS = [
  ...['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September'],
  ...['October', 'November', 'December'],
];
/** Made of others. */
const COMPOSED: Readonly<Record<string, string>> = {
  ...{ D: '%m/%d/%y', F: '%Y-%m-%d', T: '%H:%M:%S', R: '%H:%M', r: '%I:%M:%S %p', h: '%b' },
  ...{ c: '%a %b %e %H:%M:%S %Y', x: '%m/%d/%y', X: '%H:%M:%S' },
};
const DAY_MS = 86_400_000;

/** What is no directive stays as it is. */
export function strftime(date: Date, format: string): string {
  return format.replace(/%([-_0^#]?)([A-Za-z%])/g, (whole, flag: string, name: string) => {
    const composed = COMPOSED[name];
    const value = composed === undefined ? directive(date, name) : strftime(date, composed);
    return value === null ? whole : flagged(value, flag);
  });
}

function flagged(value: string, flag: string): string {
  const bare = value.replace(/^[0 ]+(?=\d)/, '');
  if (flag === '-') return bare;
  if (flag === '_') return bare.padStart(value.length);
  if (flag === '0') return bare.padStart(value.length, '0');
  if (flag === '^') return value.toUpperCase();
  return value;
}

function directive(date: Date, name: string): string | null {
  const two = (value: number): string => String(value).padStart(2, '0');
  const spaced = (value: number): string => String(value).padStart(2);
  const [year, day] = [date.getFullYear(), date.getDay()];
  const hour = date.getHours() % 12 || 12;
  const ofYear = Math.round((startOf(date) - startOf(new Date(year, 0, 1))) / DAY_MS);
  const week = isoWeek(date);
  const values: Readonly<Record<string, string>> = {
    ...{ '%': '%', n: '\n', t: '\t', A: DAYS[day] ?? '', a: (DAYS[day] ?? '').slice(0, 3) },
    B: MONTHS[date.getMonth()] ?? '',
    b: (MONTHS[date.getMonth()] ?? '').slice(0, 3),
    ...{ d: two(date.getDate()), e: spaced(date.getDate()), m: two(date.getMonth() + 1) },
    ...{ Y: String(year), y: two(year % 100), C: two(Math.floor(year / 100)) },
    ...{ H: two(date.getHours()), k: spaced(date.getHours()), I: two(hour), l: spaced(hour) },
    ...{ M: two(date.getMinutes()), S: two(date.getSeconds()) },
    ...{ p: date.getHours() < 12 ? 'AM' : 'PM', P: date.getHours() < 12 ? 'am' : 'pm' },
    f: `${String(date.getMilliseconds()).padStart(3, '0')}000`,
    ...{ j: String(ofYear + 1).padStart(3, '0'), u: String(day || 7), w: String(day) },
    U: two(Math.floor((ofYear + 7 - day) / 7)),
    W: two(Math.floor((ofYear + 7 - ((day + 6) % 7)) / 7)),
    ...{ G: String(week.year), g: two(week.year % 100), V: two(week.number) },
    // Of a date without a zone, as datetime.now() is.
    ...{ Z: '', z: '', s: String(Math.floor(date.getTime() / 1000)) },
  };
  return Object.hasOwn(values, name) ? (values[name] ?? null) : null;
}

/** ms of the day's midnight, as if there were no summer time. */
function startOf(date: Date): number {
  return Date.UTC(date.getFullYear(), date.getMonth(), date.getDate());
}

function isoWeek(date: Date): { year: number; number: number } {
  // The week belongs to the year of its Thursday.
  const thursday = new Date(startOf(date) + (3 - ((date.getDay() + 6) % 7)) * DAY_MS);
  const year = thursday.getUTCFullYear();
  const number = Math.floor((thursday.getTime() - Date.UTC(year, 0, 1)) / DAY_MS / 7) + 1;
  return { year, number };
}
