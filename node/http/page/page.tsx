/**
 * The web page of a peer: everything that GET /events says, for people. Text of other peers reaches the document as
 * text only, never as markup.
 */
/*! Contains Preact (c) 2015-present Jason Miller and uPlot (c) Leon Sorokin, both under the MIT licence: node_modules/preact/LICENSE, node_modules/uplot/LICENSE */
import { render } from 'preact';
import { curvesOf } from './curves.js';
import { Adapter, Privacy, Reachability, ThisPeer } from './facts.js';
import { follow } from './feed.js';
import { Learning, Speed } from './learning.js';
import { Members } from './members.js';
import { Mesh } from './mesh.js';
import type { Model } from './model.js';
import { Attention, Figures, Header } from './overview.js';
import { Traffic } from './traffic.js';

function Page({ model }: { model: Model }) {
  const { report, link } = model;
  if (report === null) return <Awaiting model={model} />;
  const curves = curvesOf(model.history, report);
  return (
    <main class={link === 'lost' ? 'stale' : ''} data-link={link}>
      <div class="top">
        <div>
          <Header report={report} />
          <Attention model={model} />
        </div>
        <Mesh report={report} />
      </div>
      <Figures report={report} />
      <div class="panels">
        <Learning curves={curves} report={report} />
        <Members report={report} />
        <Speed curves={curves} report={report} />
        <Traffic report={report} />
        <Adapter report={report} />
        <Reachability report={report} />
        {report.privacy !== null && <Privacy privacy={report.privacy} />}
        <ThisPeer report={report} />
      </div>
    </main>
  );
}

/** Before the peer has said anything. */
function Awaiting({ model }: { model: Model }) {
  return (
    <main class="awaiting" data-link={model.link}>
      <p class="brand">
        <img src="/favicon.svg" alt="" width="22" height="22" /> Murmurate
      </p>
      {model.link === 'lost' ? (
        <Attention model={model} />
      ) : (
        <h1>{model.link === 'starting' ? 'The peer is starting' : 'Asking the peer'} …</h1>
      )}
    </main>
  );
}

const root = document.getElementById('page');
if (root !== null) {
  follow((model) => {
    const name = model.report?.run.name;
    document.title = name === undefined ? 'Murmurate' : `${name} – Murmurate`;
    render(<Page model={model} />, root);
  });
}
