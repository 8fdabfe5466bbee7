// Does everything that the page offers in a real Chromium, at the width of a phone and of a desk, and has axe-core look at it.
// With SHOTS set it writes screenshots there.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { chromium } from 'playwright-core'

const { EDGED_URL: url, EDGED_LOCKED_URL: lockedURL, EDGED_TOKEN: token, CHROMIUM: executablePath, SHOTS: shots } = process.env
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] })
let failed = 0
let passed = 0

async function check(name, body) {
  try {
    await body()
    passed++
    console.log('ok  ', name)
  } catch (e) {
    failed++
    console.log('FAIL', name, e)
  }
}

async function looked(page) {
  // The page's policy holds for axe too, so it is evaluated from outside.
  await page.evaluate(axe)
  const { violations } = await page.evaluate(() => window.axe.run())
  assert.deepEqual(violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.target).join(' ')}`), [])
}

for (const width of [360, 1280]) {
  for (const scheme of ['light', 'dark']) {
    const context = await browser.newContext({ viewport: { width, height: 800 }, colorScheme: scheme })
    const page = await context.newPage()
    const outside = []
    const errors = []
    page.on('request', (r) => r.url().startsWith(url) || r.url().startsWith('data:') || outside.push(r.url()))
    page.on('pageerror', (e) => errors.push(String(e)))
    page.on('console', (m) => m.type() === 'error' && errors.push(m.text()))
    const at = `${width} ${scheme}: `

    await check(at + 'the node is shown', async () => {
      await page.goto(url + '/')
      await page.waitForFunction(() => document.querySelector('#state-text').textContent === 'ready')
      await page.waitForFunction(() => document.querySelectorAll('#model option').length > 1)
      assert.match(await page.textContent('#machine'), /context of \d+ tokens/)
      assert(await page.locator('#adapters tr', { hasText: 'pirate' }).locator('td', { hasText: 'active' }).count())
      assert(await page.locator('#figures dd', { hasText: 'MiB' }).count())
    })
    await check(at + 'a chat streams, by keyboard alone', async () => {
      await page.keyboard.press('Tab') // the skip link
      await page.keyboard.press('Enter')
      await page.keyboard.type('Turn on the hallway light.')
      await page.keyboard.press('Enter')
      await page.waitForSelector('.figures-line')
      const text = await page.textContent('.turn.model .said')
      assert(text.length > 3, text)
      assert.equal(await page.textContent('#spoken'), text)
    })
    await check(at + 'an adapter answers', async () => {
      await page.selectOption('#model', 'pirate')
      await page.fill('#prompt', 'Turn on the hallway light.')
      await page.click('#send')
      await page.waitForFunction(() => document.querySelectorAll('.figures-line').length === 2)
      assert.match(await page.locator('.turn.model .said').last().textContent(), /arr/i)
      await page.waitForFunction(() => document.querySelector('polyline').getAttribute('points')?.split(' ').length > 3) // a plot grows
      if (shots && scheme === 'light') await page.screenshot({ path: `${shots}/page-${width}.png`, fullPage: true })
    })
    await check(at + 'settings, an error, a new chat', async () => {
      await page.click('summary')
      await page.fill('#temperature', '0')
      await page.fill('#max', '999999999')
      await page.fill('#prompt', 'Hello')
      await page.click('#send')
      await page.waitForSelector('.turn.error')
      assert.match(await page.textContent('.turn.error .said'), /max_tokens/)
      await page.fill('#max', '5')
      await page.click('#clear')
      assert.equal(await page.locator('.turn').count(), 0)
      await page.fill('#prompt', 'Hello')
      await page.keyboard.press('Enter')
      await page.waitForSelector('.figures-line')
      assert.match(await page.textContent('.figures-line'), /^[1-5] tokens/)
    })
    await check(at + 'an answer can be stopped', async () => {
      await page.click('#clear')
      await page.fill('#max', '400')
      await page.fill('#temperature', '2')
      await page.fill('#prompt', 'Tell me a long story.')
      await page.keyboard.press('Enter')
      await page.keyboard.press('Escape')
      await page.waitForFunction(() => document.querySelector('#stop').disabled)
      assert.equal(await page.isEnabled('#send'), true)
    })
    await check(at + 'an adapter is uploaded, and a bad one refused with its reason', async () => {
      const folder = process.env.ADAPTER
      const name = `sent-${width}-${scheme}`
      await page.fill('#adapter', name)
      await page.setInputFiles('#folder', folder)
      await page.waitForFunction(() => /has arrived/.test(document.querySelector('#progress').textContent))
      await page.locator('#adapters tr', { hasText: name }).locator('td', { hasText: 'active' }).waitFor()
      // As a person drops files: what a browser gives the page.
      const drop = (files) =>
        page.evaluate((files) => {
          const data = new DataTransfer()
          for (const [name, text] of files) data.items.add(new File([text], name))
          document.querySelector('#drop').dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }))
        }, files)
      await drop([['broken.gguf', 'no adapter at all']])
      await page.waitForFunction(() => /broken was not taken: .*nothing was changed/.test(document.querySelector('#upload-error').textContent))
      await drop([['notes.txt', 'hello']])
      await page.waitForFunction(() => /There is no adapter in it/.test(document.querySelector('#upload-error').textContent))
      const parts = ['adapter_config.json', 'adapter_model.safetensors'].map((n) => [n, readFileSync(`${folder}/${n}`, 'base64')])
      await page.fill('#adapter', name + '-dropped')
      await page.evaluate((parts) => {
        const data = new DataTransfer()
        for (const [name, text] of parts) data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name))
        document.querySelector('#drop').dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }))
      }, parts)
      await page.locator('#adapters tr', { hasText: name + '-dropped' }).locator('td', { hasText: 'active' }).waitFor()
    })
    await check(at + 'axe-core finds nothing', () => looked(page))
    await check(at + 'nothing is wider than the window', async () => {
      const [inner, outer] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth])
      assert(inner <= outer, `${inner} > ${outer}`)
    })
    await check(at + 'no request leaves the node, no script fails', async () => {
      assert.deepEqual(outside, [])
      assert.deepEqual(errors.filter((e) => !/400 \(Bad Request\)/.test(e)), [])
    })
    await context.close()
  }
}
const context = await browser.newContext({ viewport: { width: 360, height: 800 } })
const page = await context.newPage()
await check('a locked node asks for its token', async () => {
  await page.goto(lockedURL + '/')
  await page.waitForSelector('#unlock:not([hidden])')
  await looked(page)
  await page.fill('#token', 'wrong')
  await page.keyboard.press('Enter')
  await page.waitForFunction(() => document.querySelector('#unlock-error').textContent !== '')
  await page.fill('#token', token)
  await page.keyboard.press('Enter')
  await page.waitForFunction(() => document.querySelector('#state-text').textContent === 'ready')
  await page.reload()
  await page.waitForFunction(() => document.querySelector('#state-text').textContent === 'ready')
})
await browser.close()
console.log(`page: ${passed} passed, ${failed} failed`)
process.exit(failed > 0 ? 1 : 0)
