// What a billing service in Node does with Stripe, through stripe-node. Prints one JSON object of what it saw.
// Argument: the sandbox's ready line.
import { once } from 'node:events';
import { createServer } from 'node:http';
import Stripe from 'stripe';

const ready = JSON.parse(process.argv[2]);
const address = new URL(ready.stripe_url);
const options = { host: address.hostname, port: Number(address.port), protocol: 'http', telemetry: false };
const stripe = new Stripe(ready.stripe_key, { ...options, apiVersion: '2026-10-28.endive', maxNetworkRetries: 0 });

async function advance(seconds) {
  const body = JSON.stringify({ advance_seconds: seconds });
  const answer = await fetch(`${ready.control_url}/clock`, { method: 'POST', body });
  if (!answer.ok) throw new Error(await answer.text());
}

async function refusal(promise) {
  const error = await promise.then(() => { throw new Error('nothing was refused'); }, (refused) => refused);
  return { class: error.constructor.name, status: error.statusCode, code: error.code, param: error.param };
}

async function lists() {
  const made = [];
  for (let n = 0; n < 25; n += 1) {
    made.push((await stripe.customers.create({ name: `Customer ${n}`, metadata: { n: String(n) } })).id);
  }
  const paged = await stripe.customers.list({ limit: 10 }).autoPagingToArray({ limit: 1000 });
  const upwards = [];
  for await (const customer of stripe.customers.list({ limit: 7, ending_before: made[0] })) upwards.push(customer.id);
  await advance(60);
  const found = await stripe.customers.search({ query: "metadata['n']:'7'" });
  const everything = await stripe.customers.search({ query: 'name~"Customer"', limit: 10 })
    .autoPagingToArray({ limit: 1000 });
  const removed = await stripe.customers.del(made[3]);
  return {
    newestFirst: JSON.stringify(paged.map((c) => c.id)) === JSON.stringify([...made].reverse()),
    upwards: JSON.stringify(upwards) === JSON.stringify(made.slice(1)),
    searched: found.data.map((c) => c.name),
    searchedAll: new Set(everything.map((c) => c.id)).size,
    removed: removed.deleted,
    stub: (await stripe.customers.retrieve(made[3])).deleted,
  };
}

async function refusals() {
  const idempotencyKey = `order-${ready.stripe_key.slice(-4)}`;
  const first = await stripe.customers.create({ name: 'Once' }, { idempotencyKey });
  const again = await stripe.customers.create({ name: 'Once' }, { idempotencyKey });
  return {
    replayed: first.id === again.id && again.lastResponse.headers['idempotent-replayed'] === 'true',
    mismatch: await refusal(stripe.customers.create({ name: 'Other' }, { idempotencyKey })),
    unknown: await refusal(stripe.customers.create({ nmae: 'x' })),
    missing: await refusal(stripe.customers.retrieve('cus_nope')),
    key: await refusal(new Stripe('sk_test_wrong', options).customers.list()),
  };
}

async function subscriptions() {
  const clock = await stripe.testHelpers.testClocks.create({ frozen_time: 1800000000, name: 'Renewals' });
  const customer = await stripe.customers.create({
    name: 'Acme', test_clock: clock.id, payment_method: 'pm_card_visa',
    invoice_settings: { default_payment_method: 'pm_card_visa' },
  });
  const price = await stripe.prices.create({
    currency: 'eur', unit_amount: 1500, recurring: { interval: 'month' }, product_data: { name: 'Seat' },
  });
  const subscription = await stripe.subscriptions.create({
    customer: customer.id, items: [{ price: price.id, quantity: 3 }],
    expand: ['latest_invoice.payments', 'customer', 'items.data.price.product'],
  });
  await stripe.testHelpers.testClocks.advance(clock.id, { frozen_time: 1800000000 + 32 * 86400 });
  let reached = await stripe.testHelpers.testClocks.retrieve(clock.id);
  while (reached.status === 'advancing') reached = await stripe.testHelpers.testClocks.retrieve(clock.id);
  const invoices = await stripe.invoices.list({ subscription: subscription.id, expand: ['data.customer'] })
    .autoPagingToArray({ limit: 100 });
  const preview = await stripe.invoices.createPreview({
    subscription: subscription.id,
    subscription_details: { items: [{ id: subscription.items.data[0].id, quantity: 4 }] },
  });
  const updated = await stripe.subscriptions.update(subscription.id, { cancel_at_period_end: true });
  const ended = await stripe.subscriptions.cancel(subscription.id);
  return {
    status: subscription.status,
    first: [subscription.latest_invoice.status, subscription.latest_invoice.total],
    product: subscription.items.data[0].price.product.name,
    payment: subscription.latest_invoice.payments.data[0].status,
    name: subscription.customer.name,
    clock: reached.status,
    invoices: invoices.map((invoice) => [invoice.billing_reason, invoice.total, invoice.customer.name]),
    preview: preview.lines.data.length,
    cancels: updated.cancel_at_period_end,
    ended: ended.status,
  };
}

async function webhooks() {
  const received = [];
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request.setEncoding('utf8')) body += chunk;
    received.push([body, request.headers['stripe-signature']]);
    response.end();
    server.emit('delivered');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const endpoint = await stripe.webhookEndpoints.create({
    url: `http://127.0.0.1:${server.address().port}/stripe`, enabled_events: ['product.created'],
  });
  await advance(400 * 86400);
  const delivered = once(server, 'delivered');
  const product = await stripe.products.create({ name: 'Ünïcode 🎉 product' });
  await delivered;
  const [body, signature] = received[0];
  const event = stripe.webhooks.constructEvent(body, signature, endpoint.secret);
  let tampered = 'accepted';
  try {
    stripe.webhooks.constructEvent(body.replace('🎉', '!'), signature, endpoint.secret);
  } catch (error) {
    tampered = error.type;
  }
  const listed = await stripe.events.retrieve(event.id);
  await stripe.webhookEndpoints.del(endpoint.id);
  server.close();
  return {
    type: event.type,
    same: event.data.object.id === product.id && event.data.object.name === product.name,
    tampered,
    listed: listed.data.object.id === product.id,
  };
}

async function pinned() {
  const own = new Stripe(ready.stripe_key, options);
  const answer = await own.products.create({ name: 'Default version' });
  return answer.lastResponse.apiVersion;
}

console.log(JSON.stringify({
  lists: await lists(),
  refusals: await refusals(),
  subscriptions: await subscriptions(),
  webhooks: await webhooks(),
  pinned: await pinned(),
}));
