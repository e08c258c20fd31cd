import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { compileJinja } from '../../../node/data/jinja.js';

const render = (source: string, variables: Record<string, unknown> = {}): string =>
  compileJinja(source).render(variables).text;

describe('chat templates run as in Python', () => {
  it('strip characters that are named, and the white space of Python', () => {
    assert.equal(
      render("{{ x.lstrip('\\n') + '|' + x.strip() + '|' + x | trim }}", { x: '\n  a \n' }),
      '  a \n|a|a',
    );
    assert.equal(render('[{{ x.strip() }}]', { x: '\u0085\ufeffa\u001f' }), '[\ufeffa]');
    assert.equal(render("{{ x.rstrip('>').split('<')[-1] }}", { x: 'a<b>>' }), 'b');
    assert.equal(render("{{ 'ab.cd'.find('c') }} {{ 'aXbX'.rfind('X') }}"), '3 3');
    assert.equal(
      render("{{ 'unhappy'.removeprefix('un') }} {{ 'a,b,c'.rsplit(',', 1)[0] }}"),
      'happy a,b',
    );
    assert.equal(render("{{ ', '.join(['a', 'b']) }}"), 'a, b');
  });

  it('tell an empty text from false and a number from its digits', () => {
    const source =
      "{{ 'y' if '' == false else 'n' }}{{ 'y' if 1 == '1' else 'n' }}{{ 'y' if 1 == 1.0 else 'n' }}";
    assert.equal(render(source), 'nny');
    assert.equal(render("{{ 'y' if x == none else 'n' }}", { x: null }), 'y');
    assert.equal(render("{{ 'y' if ['a'] == ['a'] else 'n' }}"), 'y');
  });

  it('keep the text before break and continue', () => {
    const loop =
      '{% for x in range(4) %}{{ x }}{% if x == 1 %}{% continue %}{% endif %}{% if x == 2 %}{% break %}{% endif %},{% endfor %}';
    assert.equal(render(loop), '0,12');
    assert.equal(render(`{% for y in range(2) %}${loop};{% endfor %}`), '0,12;0,12;');
  });

  it('read any line breaks as line feeds', () => {
    assert.equal(render('a\r\nb\rc'), 'a\nb\nc');
    assert.equal(render('{% if true %}\r\nx\r\n{% endif %}\r\n'), 'x\n');
  });

  it('tell the date in English', () => {
    const now = (): Date => new Date(2025, 2, 7, 9, 5);
    const template = compileJinja("{{ strftime_now('%d %b %Y, %A %B %-d, %H:%M') }}", now);
    assert.equal(template.render({}).text, '07 Mar 2025, Friday March 7, 09:05');
  });

  it('throw what a template raises, and for what cannot be written', () => {
    assert.throws(
      () => render("{{ raise_exception('no tools here') }}"),
      /^JinjaError: no tools here/,
    );
    assert.throws(() => render('{{ nothing | tojson }}'), /Undefined cannot be written as JSON/);
    assert.throws(() => render('{% for x in range(100000000) %}{% endfor %}'), /asks for a range/);
    assert.throws(() => compileJinja('{% if %}'));
  });

  it('say what stands between generation tags, which control white space as they would', () => {
    const source =
      '{% for x in xs %}\n  {%- generation -%}\n  {{ x }}!\n  {%- endgeneration %}\n;{% endfor %}';
    const { text, generated } = compileJinja(source).render({ xs: ['a', 'bc'] });
    assert.equal(text, 'a!;bc!;');
    assert.deepEqual(
      generated?.map(([start, end]) => text.slice(start, end)),
      ['a!', 'bc!'],
    );
    assert.equal(compileJinja('x').render({}).generated, null);
  });
});
