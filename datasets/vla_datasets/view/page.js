'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const $ = id => document.getElementById(id);
const HUES = [210, 25, 140, 280, 48, 340, 175, 95];
const isDark = matchMedia('(prefers-color-scheme: dark)').matches;
const colour = i => `hsl(${HUES[i % HUES.length]} ${isDark ? '75% 66%' : '70% 44%'})`;
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const channels = { state: data.state, action: data.action };

function make(tag, attributes = {}, ...children) {
  const node = Object.assign(document.createElement(tag), attributes);
  node.append(...children);
  return node;
}

// Values travel as uint16 between each dimension's least and greatest value: points x dimensions, little-endian.
function unpack(text, dimensions) {
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const points = bytes.length / 2 / dimensions.length;
  return dimensions.map((dimension, d) => Float32Array.from({ length: points }, (_, i) =>
    dimension.low + view.getUint16((i * dimensions.length + d) * 2, true) / 65535 * (dimension.high - dimension.low)));
}

function values(episode, key) {
  episode.unpacked ??= {};
  return episode.unpacked[key] ??= unpack(episode[key], channels[key]);
}

function surface(canvas) {
  const ratio = devicePixelRatio || 1, { width, height } = canvas.getBoundingClientRect();
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const context = canvas.getContext('2d');
  context.scale(ratio, ratio);
  return { context, width, height };
}

// Shades what training does not use and marks findings; x of a frame is its share of the width.
function shade(context, episode, width, height) {
  context.fillStyle = isDark ? '#ffffff14' : '#00000012';
  let last = 0;
  for (const [start, end] of [...episode.keep, [episode.length, episode.length]]) {
    context.fillRect(last / episode.length * width, 0, (start - last) / episode.length * width, height);
    last = end;
  }
  for (const finding of episode.findings) {
    context.fillStyle = css(finding.severity === 'error' ? '--bad' : '--warn');
    const [start, end] = finding.frames;
    context.fillRect(start / episode.length * width, height - 3, (end - start) / episode.length * width, 3);
  }
}

function yOf(value, low, high, height) {
  return 6 + (1 - (value - low) / (high - low || 1)) * (height - 13);
}

function line(context, series, low, high, width, height, style, dash = []) {
  context.strokeStyle = style;
  context.setLineDash(dash);
  context.lineWidth = 1.5;
  context.beginPath();
  const last = Math.max(series.length - 1, 1);
  series.forEach((value, i) => {
    const x = i / last * width, y = yOf(value, low, high, height);
    i ? context.lineTo(x, y) : context.moveTo(x, y);
  });
  context.stroke();
  context.setLineDash([]);
}

function overview(canvas, episode, key) {
  const { context, width, height } = surface(canvas);
  shade(context, episode, width, height);
  values(episode, key).forEach((series, d) => {
    const { q01, q99 } = channels[key][d];
    line(context, series, q01, q99, width, height, colour(d));
  });
}

function strips(episode) {
  const box = make('div', { className: 'strips' });
  data.cameras.forEach((camera, i) => {
    const label = make('span', { textContent: camera });
    label.style.top = `calc(${i / data.cameras.length * 100}% + 4px)`;
    const picture = make('img', { alt: `${camera} over time`, src: 'data:image/jpeg;base64,' + episode.strips[camera] });
    box.append(picture, label);
  });
  return box;
}

function meta(episode, ...more) {
  const outcome = make('span', { className: episode.success ? 'good' : 'bad' }, episode.success ? 'success' : 'failure');
  const parts = [make('span', {}, '#' + episode.index), outcome, make('span', {}, `${(episode.length / data.rate_hz).toFixed(1)} s`)];
  const errors = episode.findings.filter(f => f.severity === 'error').length, warnings = episode.findings.length - errors;
  if (errors) parts.push(make('span', { className: 'bad' }, `${errors} error${errors > 1 ? 's' : ''}`));
  if (warnings) parts.push(make('span', { className: 'warn' }, `${warnings} warning${warnings > 1 ? 's' : ''}`));
  return make('div', { className: 'meta' }, ...parts, make('span', { className: 'task', title: episode.task }, episode.task), ...more);
}

function fill(card, episode) {
  const plots = make('div', { className: 'plots' });
  card.append(strips(episode), plots);
  for (const key of ['state', 'action']) {
    const canvas = make('canvas');
    plots.append(make('figure', {}, make('figcaption', { textContent: key }), canvas));
    overview(canvas, episode, key);
  }
}

const ratioOf = data.strip_aspect.reduce((sum, aspect) => sum + 1 / aspect, 0);
const watcher = new IntersectionObserver(entries => entries.forEach(entry => {
  if (!entry.isIntersecting) return;
  watcher.unobserve(entry.target);
  entry.target.style.minHeight = '';
  fill(entry.target, entry.target.episode);
}), { rootMargin: '600px' });

const cards = data.episodes.map(episode => {
  const card = make('button', { className: 'card', type: 'button', episode, onclick: () => show(episode) },
    make('header', {}, make('h3', { textContent: episode.instruction, title: episode.instruction }), meta(episode)));
  card.style.minHeight = `${145 + 400 * ratioOf}px`;
  card.words = `${episode.index} ${episode.instruction} ${episode.task} ${episode.source_id}`.toLowerCase();
  watcher.observe(card);
  return card;
});

const ORDERS = {
  'store order': (a, b) => a.index - b.index,
  'longest first': (a, b) => b.length - a.length,
  'shortest first': (a, b) => a.length - b.length,
  'most findings first': (a, b) => b.findings.length - a.findings.length,
};
const none = make('div', { className: 'none' }, 'No episode matches these filters.');

function apply() {
  const words = $('text').value.toLowerCase().split(/\s+/).filter(Boolean);
  const task = $('task').value, outcome = $('outcome').value, check = $('check').value;
  cards.sort((a, b) => ORDERS[$('order').value](a.episode, b.episode));
  let shown = 0;
  for (const card of cards) {
    const { episode } = card;
    card.hidden = !(words.every(word => card.words.includes(word)) && (!task || episode.task === task)
      && (!outcome || episode.success === (outcome === 'success'))
      && (!check || (check === 'none' ? !episode.findings.length
        : episode.findings.some(f => check === 'any' || f.check === check))));
    shown += !card.hidden;
  }
  none.hidden = shown > 0;
  $('episodes').replaceChildren(...cards, none);
  $('count').textContent = `${shown} of ${cards.length} shown`;
}

function options(id, entries) {
  $(id).append(...entries.map(([value, text]) => make('option', { value, textContent: text })));
}
const counts = list => Object.entries(list.reduce((sum, name) => ({ ...sum, [name]: (sum[name] ?? 0) + 1 }), {})).sort();
options('task', counts(data.episodes.map(e => e.task)).map(([name, n]) => [name, `${name} (${n})`]));
options('check', counts(data.episodes.flatMap(e => [...new Set(e.findings.map(f => f.check))])).map(([name, n]) => [name, `${name} (${n})`]));
options('order', Object.keys(ORDERS).map(name => [name, name]));
for (const id of ['text', 'task', 'outcome', 'check', 'order']) $(id).addEventListener('input', apply);
$('legend').append(...data.state.map((dimension, d) => {
  const mark = make('i');
  mark.style.background = colour(d);
  return make('span', {}, mark, dimension.name);
}));

const GUTTER = 46; // pixels left of a large plot, for its two numbers

// The large view: every dimension in its unit, the state solid, the action of the same name dashed.
function show(episode) {
  const dialog = $('detail'), body = make('main');
  const visible = cards.filter(card => !card.hidden).map(card => card.episode), at = visible.indexOf(episode);
  const step = by => make('button', { type: 'button', disabled: !visible[at + by], onclick: () => show(visible[at + by]) }, by < 0 ? '← previous' : 'next →');
  const head = make('div', {}, make('h2', { textContent: episode.instruction }), meta(episode, make('code', {}, episode.source_id)));
  dialog.onkeydown = event => {
    const to = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (to && visible[at + to]) show(visible[at + to]);
  };
  dialog.replaceChildren(make('header', {}, head, step(-1), step(1),
    make('button', { type: 'button', autofocus: true, onclick: () => dialog.close() }, 'close')), body);
  if (episode.findings.length) body.append(make('ul', { className: 'findings' }, ...episode.findings.map(f =>
    make('li', { className: f.severity }, make('b', {}, `${f.check}, ${f.key}: `),
      `${f.what}; frames ${f.frames[0]} to ${f.frames[1] - 1}; expected ${f.expected}; got ${f.got}`))));
  for (const subtask of episode.subtasks) body.append(make('p', { className: 'soft', style: 'margin: 0 0 4px' },
    `${(subtask.start / data.rate_hz).toFixed(1)} to ${(subtask.end / data.rate_hz).toFixed(1)} s: ${subtask.text}`));
  body.append(strips(episode), make('p', { className: 'legend', textContent: 'solid: state, dashed: action; grey: not used in training; point at a curve to read it' }));
  const names = [...new Set([...data.state, ...data.action].map(dimension => dimension.name))];
  const grid = make('div', { className: 'dims' });
  body.append(grid);
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  const draws = names.map((name, i) => detailPlot(grid, episode, name, i));
  grid.onpointermove = event => {
    if (event.target.tagName !== 'CANVAS') return;
    const box = event.target.getBoundingClientRect();
    const share = Math.min(Math.max((event.clientX - box.left - GUTTER) / (box.width - GUTTER), 0), 1);
    draws.forEach(draw => draw(share));
  };
  grid.onpointerleave = () => draws.forEach(draw => draw(null));
}

function detailPlot(grid, episode, name, i) {
  const found = ['state', 'action'].flatMap(key => {
    const d = channels[key].findIndex(dimension => dimension.name === name);
    return d < 0 ? [] : [{ key, series: values(episode, key)[d], ...channels[key][d] }];
  });
  const all = found.flatMap(({ series }) => [...series]);
  let low = Math.min(...all), high = Math.max(...all);
  // A dimension that hardly moves must not look as if it did: show at least a tenth of its usual range.
  const missing = Math.max(...found.map(({ q01, q99 }) => (q99 - q01) / 10), 1e-3) - (high - low);
  if (missing > 0) [low, high] = [low - missing / 2, high + missing / 2];
  const output = make('output'), canvas = make('canvas');
  const unit = found[0].unit === '1' ? '' : found[0].unit;
  grid.append(make('figure', {}, make('figcaption', {}, make('b', {}, name), make('span', { className: 'soft' }, unit), output), canvas));
  const draw = share => {
    const { context, width: whole, height } = surface(canvas), width = whole - GUTTER;
    context.font = '10.5px system-ui, sans-serif';
    context.textAlign = 'right';
    for (const value of [low, high]) {
      const y = yOf(value, low, high, height);
      context.fillStyle = css('--line');
      context.fillRect(GUTTER, y, width, 1);
      context.fillStyle = css('--soft');
      context.fillText(value.toFixed(3), GUTTER - 6, y + 4);
    }
    context.translate(GUTTER, 0);
    shade(context, episode, width, height);
    for (const { key, series } of found) line(context, series, low, high, width, height, colour(key === 'state' ? 0 : 1), key === 'state' ? [] : [5, 3]);
    if (share === null) {
      output.textContent = '';
      return;
    }
    context.fillStyle = css('--soft');
    context.fillRect(share * width, 0, 1, height);
    const read = found.map(({ key, series }) => `${key} ${series[Math.round(share * (series.length - 1))].toFixed(3)}`);
    output.textContent = `${(share * (episode.length - 1) / data.rate_hz).toFixed(1)} s  ${read.join('  ')}`;
  };
  draw(null);
  return draw;
}

apply();
