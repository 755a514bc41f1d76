// Lists, creates, pages and upserts through jsforce; prints one JSON object. Argument: {"url", "token"}.
const jsforce = require('jsforce');
const { url, token } = JSON.parse(process.argv[2]);

async function main() {
  const connection = new jsforce.Connection({ instanceUrl: url, accessToken: token, version: '64.0' });
  const account = connection.sobject('Account');
  const created = await account.create([{ Name: 'A' }, { Name: 'B' }, {}]);
  const upserted = [];
  for (const name of ['C', 'D']) {
    upserted.push(await account.upsert({ Name: name, Stripe_Customer_Id__c: 'cus_1' }, 'Stripe_Customer_Id__c'));
  }
  const names = [];
  await new Promise((resolve, reject) => {
    connection.query('SELECT Name FROM Account ORDER BY Name')
      .on('record', (record) => names.push(record.Name)).on('end', resolve).on('error', reject)
      .run({ autoFetch: true, maxFetch: 1000 });
  });
  const described = await account.describe();
  const refused = await account.create({ Nope__c: 1 }).catch((error) => error.errorCode);
  connection.bulk2.pollInterval = 20;
  const loaded = await connection.bulk2.loadAndWaitForResults({
    object: 'Account', operation: 'insert', input: [{ Name: 'E', Phone: '1' }, { Name: 'F', Phone: 'x'.repeat(50) }],
  });
  console.log(JSON.stringify({
    created: created.map((result) => result.success),
    upserted: upserted.map((result) => result.created),
    names,
    prefix: described.keyPrefix,
    refused,
    loaded: [loaded.successfulResults.length, loaded.failedResults.length],
  }));
}

main().catch((error) => { console.error(error); process.exit(1); });
