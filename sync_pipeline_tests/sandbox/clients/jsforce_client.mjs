// What a service in Node does with Salesforce, through jsforce. Prints one JSON object of what it saw.
// Argument: the sandbox's ready line.
import jsforce from 'jsforce';

const ready = JSON.parse(process.argv[2]);
const version = '66.0';
const ACCOUNTS = 450;
const AWKWARD = ['quote "x"', 'comma, semicolon;', 'two\nlines', 'Zoë 🎉', '#N/A is text here', "O'Hara \\ Sons"];

async function signedIn() {
  const oauth2 = { loginUrl: ready.salesforce_url, clientId: ready.client_id, clientSecret: ready.client_secret };
  const connection = new jsforce.Connection({ oauth2, version });
  const user = await connection.authorize({ grant_type: 'client_credentials' });
  const identity = await connection.identity();
  return { sameHost: connection.instanceUrl === ready.salesforce_url, sameUser: identity.user_id === user.id };
}

function names(result) {
  return result.records.map((record) => record.Name);
}

async function records(connection) {
  const account = connection.sobject('Account');
  const rows = Array.from({ length: ACCOUNTS }, (_, n) => ({ Name: `Account ${String(n).padStart(3, '0')}` }));
  const created = await account.create(rows, { allowRecursive: true });
  const headers = { 'Sforce-Query-Options': 'batchSize=200' };
  const pages = [];
  let page = await connection.query('SELECT Id, Name FROM Account ORDER BY Name', { headers });
  pages.push(page);
  while (!page.done) {
    page = await connection.queryMore(page.nextRecordsUrl, { headers });
    pages.push(page);
  }
  const upserts = [];
  for (const name of ['First', 'Second']) {
    upserts.push((await account.upsert({ Name: name, Stripe_Customer_Id__c: 'cus_node' }, 'Stripe_Customer_Id__c')).created);
  }
  const many = await account.upsert(
    [{ Name: 'Third', Stripe_Customer_Id__c: 'cus_node' }, { Name: 'Fourth', Stripe_Customer_Id__c: 'cus_other' }],
    'Stripe_Customer_Id__c',
  );
  const found = await account.find({ Stripe_Customer_Id__c: { $in: ['cus_node', 'cus_other'] } }, 'Id, Name').sort('Name');
  const mixed = await account.create([{ Name: 'Good' }, {}]);
  const updated = await account.update({ Id: found[0].Id, Phone: '+44 20 7946 0000' });
  const removed = await account.destroy([created[0].id, created[1].id]);
  const described = await account.describe();
  return {
    created: created.filter((result) => result.success).length,
    pages: pages.map((part) => part.records.length),
    complete: new Set(pages.flatMap(names)).size === ACCOUNTS && pages[0].totalSize === ACCOUNTS,
    upserts,
    many: many.map((result) => result.created),
    found: found.map((record) => record.Name),
    mixed: mixed.map((result) => (result.success ? 'saved' : result.errors[0].statusCode ?? result.errors[0].errorCode)),
    updated: updated.success,
    retrieved: (await account.retrieve(found[0].Id)).Phone,
    removed: removed.map((result) => result.success),
    counted: (await connection.query('SELECT COUNT() FROM Account')).totalSize,
    gone: (await connection.query(`SELECT Id FROM Account WHERE IsDeleted = true`, { scanAll: true })).totalSize,
    prefix: described.keyPrefix,
    objects: (await connection.describeGlobal()).sobjects.some((object) => object.name === 'Opportunity'),
    limited: connection.limitInfo.apiUsage.limit > 0,
    missing: await account.retrieve('001000000000000AAA').catch((error) => error.errorCode),
    malformed: await connection.query('SELECT FROM Account').catch((error) => error.errorCode),
  };
}

async function bulk(connection) {
  connection.bulk2.pollInterval = 50;
  connection.bulk2.pollTimeout = 30000;
  const input = AWKWARD.map((text) => ({ Name: `Bulk ${text}`, Phone: '1' }));
  const loaded = await connection.bulk2.loadAndWaitForResults({
    object: 'Account', operation: 'insert', input: [...input, { Name: 'Too long', Phone: '9'.repeat(60) }],
  });
  const upserted = await connection.bulk2.loadAndWaitForResults({
    object: 'Account', operation: 'upsert', externalIdFieldName: 'Stripe_Customer_Id__c',
    input: [
      { Stripe_Customer_Id__c: 'cus_node', Name: 'From bulk', Phone: '#N/A' },
      { Stripe_Customer_Id__c: 'cus_bulk', Name: 'New in bulk', Phone: '2' },
    ],
  });
  const cleared = await connection.query("SELECT Phone FROM Account WHERE Stripe_Customer_Id__c = 'cus_node'");
  const stream = await connection.bulk2.query("SELECT Name FROM Account WHERE Name LIKE 'Bulk %'");
  const rows = await stream.toArray();
  return {
    loaded: [loaded.successfulResults.length, loaded.failedResults.length, loaded.unprocessedRecords.length],
    failed: loaded.failedResults[0].sf__Error.split(':')[0],
    upserted: upserted.successfulResults.map((row) => [row.Stripe_Customer_Id__c, row.sf__Created]).sort(),
    cleared: cleared.records[0].Phone,
    awkward: JSON.stringify(rows.map((row) => row.Name).sort())
      === JSON.stringify(AWKWARD.map((text) => `Bulk ${text}`).sort()),
  };
}

const connection = new jsforce.Connection({ instanceUrl: ready.salesforce_url, accessToken: ready.access_token, version });
console.log(JSON.stringify({
  signedIn: await signedIn(),
  records: await records(connection),
  bulk: await bulk(connection),
}));
