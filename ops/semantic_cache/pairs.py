"""Pairs of questions, labelled by hand: SAME have the same answer, OTHER look alike and do not. One pair a line, `|` between.

Written for this measurement, none taken from a data set. OTHER are near misses on purpose: a real load has fewer of them, so the
rates of wrong answers printed from these are those of a hard case and not a forecast. The guards were written with them in sight: with
guards the rates flatter. Whoever finds a wrong answer adds its pair.
"""

from __future__ import annotations

SAME = """
How do I reset my password? | How can I reset my password?
How do I reset my password? | What do I do to reset my password?
How do I reset my password? | please tell me how to reset my password
How do I reset my password? | I forgot my password, how do I get a new one?
What is the capital of France? | What's the capital of France?
What is the capital of France? | Tell me the capital of France
What is the capital of France? | Which city is the capital of France?
What are your opening hours? | When are you open?
What are your opening hours? | what are the opening hours
How much does shipping to Germany cost? | What does shipping to Germany cost?
How much does shipping to Germany cost? | What are the shipping costs to Germany?
How long does delivery take? | How long will delivery take?
How long does delivery take? | How many days until my delivery arrives?
Can I return an item after 30 days? | May I return an item after 30 days?
Can I return an item after 30 days? | Is it possible to return an item after 30 days?
How do I cancel my subscription? | How can I cancel my subscription?
How do I cancel my subscription? | I want to cancel my subscription. How do I do it?
How do I cancel my subscription? | How do I end my membership?
Do you accept PayPal? | Do you take PayPal?
Do you accept PayPal? | Can I pay with PayPal?
Where is my invoice? | Where can I find my invoice?
Where is my invoice? | Where do I see my bill?
How do I change my email address? | How can I change my email address?
How do I change my email address? | Where do I update the email address of my account?
How do I install Python on Windows? | How can I install Python on Windows?
How do I install Python on Windows? | What are the steps to install Python on Windows?
What is photosynthesis? | What's photosynthesis?
What is photosynthesis? | Explain photosynthesis
What is photosynthesis? | Can you explain photosynthesis to me?
Who wrote Hamlet? | Who is the author of Hamlet?
Who wrote Hamlet? | Who was it that wrote Hamlet?
How tall is Mount Everest? | What is the height of Mount Everest?
How tall is Mount Everest? | How high is Mount Everest?
What is the boiling point of water? | At what temperature does water boil?
What is the boiling point of water? | what is water's boiling point
How many planets are there in the solar system? | How many planets are in the solar system?
How many planets are there in the solar system? | How many planets does the solar system have?
Summarize the refund policy | Please summarize the refund policy
Summarize the refund policy | Give me a summary of the refund policy
Is there a student discount? | Do you have a student discount?
Is there a student discount? | Do students get a discount?
How do I export my data as CSV? | How can I export my data as CSV?
How do I export my data as CSV? | Is there a way to export my data as CSV?
Which browsers do you support? | Which browsers are supported?
Which browsers do you support? | What browsers work with your site?
How do I contact support? | How can I contact the support?
How do I contact support? | How do I reach customer service?
Why was my payment declined? | Why has my payment been declined?
Why was my payment declined? | My payment was declined. Why?
How do I enable two-factor authentication? | How can I enable two-factor authentication?
How do I enable two-factor authentication? | How do I turn two-factor authentication on?
Can I use the app offline? | Is it possible to use the app offline?
Can I use the app offline? | Does the app work without internet?
What is the warranty on laptops? | What warranty is there on laptops?
What is the warranty on laptops? | How long is the warranty on laptops?
Wie setze ich mein Passwort zurück? | Wie kann ich mein Passwort zurücksetzen?
Was kostet der Versand nach Österreich? | Wie viel kostet der Versand nach Österreich?
Wo finde ich meine Rechnung? | Wo ist meine Rechnung?
Wie lange dauert die Lieferung? | Wie lange dauert eine Lieferung?
Kann ich mit Kreditkarte zahlen? | Kann man mit Kreditkarte bezahlen?
Comment puis-je annuler ma commande ? | Comment annuler ma commande ?
Quelle est la capitale de l'Espagne ? | Quelle ville est la capitale de l'Espagne ?
Où est ma facture ? | Où puis-je trouver ma facture ?
¿Cómo cambio mi contraseña? | ¿Cómo puedo cambiar mi contraseña?
¿Cuánto cuesta el envío a México? | ¿Cuánto vale el envío a México?
¿Dónde está mi pedido? | ¿Dónde puedo ver mi pedido?
Come posso annullare il mio ordine? | Come annullo il mio ordine?
Qual è la capitale d'Italia? | Dimmi qual è la capitale d'Italia
Como posso alterar a minha senha? | Como altero a minha senha?
How do I delete my account? | How can I delete my account?
How do I delete my account? | I would like to delete my account. How?
What payment methods do you accept? | Which payment methods do you accept?
What payment methods do you accept? | How can I pay?
Do you ship to Canada? | Can you ship to Canada?
Do you ship to Canada? | Is shipping to Canada possible?
How do I update the app? | How can I update the app?
How do I update the app? | how to update the app
What does error E401 mean? | What is the meaning of error E401?
What does error E401 mean? | What does the error E401 mean?
Convert 5 miles to kilometers | How many kilometers are 5 miles?
Convert 5 miles to kilometers | please convert 5 miles to kilometers
"""

OTHER = """
Delete user 17 | Delete user 18
What is 12 times 7? | What is 12 times 8?
Convert 5 miles to kilometers | Convert 6 miles to kilometers
Convert 5 miles to kilometers | Convert 5 kilometers to miles
Convert 5 km to meters | Convert 5 kg to meters
What will the weather be on 3 May? | What will the weather be on 4 May?
Can I return an item after 30 days? | Can I return an item after 60 days?
What does error E401 mean? | What does error E404 mean?
Where is order 4711? | Where is order 4712?
Where is order A-4711? | Where is order B-4711?
Show me invoice INV-2024-001 | Show me invoice INV-2025-001
What changed in version 2.1? | What changed in version 2.2?
Upgrade from Python 3.11 to 3.12 | Upgrade from Python 3.12 to 3.11
How do I pay 100 USD? | How do I pay 100 EUR?
How much is $50 in yen? | How much is €50 in yen?
Is 15% VAT included? | Is 19% VAT included?
Book a table for two at 7 pm | Book a table for two at 8 pm
Book a table for two at 7 pm | Book a table for three at 7 pm
Remind me at 10:30 | Remind me at 11:30
What happened in 1914? | What happened in 1918?
How old is a dog of 10 years in human years? | How old is a dog of 12 years in human years?
What is the capital of France? | What is the capital of Germany?
What is the capital of Australia? | What is the capital of Austria?
what is the capital of france | what is the capital of greece
Who wrote Hamlet? | Who wrote Macbeth?
How tall is Mount Everest? | How tall is Mount Kilimanjaro?
How do I install Python on Windows? | How do I install Python on Linux?
How do I install Python on Windows? | How do I install Java on Windows?
Flights from Paris to London | Flights from London to Paris
flights from berlin to rome | flights from rome to berlin
Translate 'cat' into German | Translate 'dog' into German
Translate "cat" into German | Translate "cat" into French
What is the weather in Berlin tomorrow? | What is the weather in Paris tomorrow?
weather in madrid tomorrow | weather in lisbon tomorrow
Who is the president of Brazil? | Who is the president of Chile?
Email anna@example.org about the meeting | Email boris@example.org about the meeting
Summarize https://example.org/a | Summarize https://example.org/b
What does get_user return? | What does set_user return?
What does getUser return? | What does getUsers return?
Explain the class HttpClient | Explain the class HttpServer
Do you ship to Canada? | Do you ship to China?
Do you accept PayPal? | Do you accept Bitcoin?
Is Anna in the office? | Is Hannah in the office?
Compare Postgres with MySQL | Compare Postgres with SQLite
How do I enable two-factor authentication? | How do I disable two-factor authentication?
How do I turn notifications on? | How do I turn notifications off?
How do I enable dark mode? | How do I disable dark mode?
How do I subscribe to the newsletter? | How do I unsubscribe from the newsletter?
How do I open an account? | How do I close an account?
How do I add a user to a group? | How do I remove a user from a group?
How do I encrypt a file? | How do I decrypt a file?
How do I import contacts? | How do I export contacts?
How do I lock my card? | How do I unlock my card?
What is the largest planet? | What is the smallest planet?
What is the highest mountain in Europe? | What is the lowest mountain in Europe?
Which plan is the cheapest? | Which plan is the most expensive?
What should I do before the exam? | What should I do after the exam?
How do I increase the font size? | How do I decrease the font size?
Can I use the app offline? | Can I not use the app offline?
Which foods contain gluten? | Which foods do not contain gluten?
Which foods contain gluten? | Which foods never contain gluten?
Is it safe to eat raw fish? | Isn't it safe to eat raw fish?
Can I travel with a visa? | Can I travel without a visa?
Is the service available on weekends? | Is the service unavailable on weekends?
Does the warranty cover water damage? | Doesn't the warranty cover water damage?
Should I take the pills with food? | Should I take the pills without food?
When did the war begin? | When did the war end?
When did the war begin? | Where did the war begin?
Where is my order? | When is my order?
Who founded the company? | When was the company founded?
Why did my payment fail? | When did my payment fail?
How do I reset my password? | Why do I reset my password?
How do I reset my password? | How do I reset my username?
How do I reset my password? | How do I reset my router?
How do I reset my password? | How do I reset my admin password?
How do I change my email address? | How do I change my postal address?
How do I change my email address? | How do I change my phone number?
How do I delete my account? | How do I delete my photo?
How do I delete my account? | How do I delete a team's account?
How do I cancel my subscription? | How do I renew my subscription?
How do I cancel my subscription? | How do I cancel my last order?
What is the warranty on laptops? | What is the warranty on phones?
What is the boiling point of water? | What is the freezing point of water?
What is the boiling point of water? | What is the boiling point of ethanol?
Is there a student discount? | Is there a senior discount?
Summarize the refund policy | Summarize the privacy policy
How long does delivery take? | How long does assembly take?
dog bites man | man bites dog
Can a father give his son money? | Can a son give his father money?
What are the symptoms of the flu? | What are the symptoms of a cold?
What are the side effects of aspirin? | What are the side effects of ibuprofen?
Meeting today at noon | Meeting tomorrow at noon
What is on the menu on monday? | What is on the menu on tuesday?
sales figures for january | sales figures for february
Report for last week | Report for last month
Wie setze ich mein Passwort zurück? | Wie ändere ich mein Passwort?
Wie lösche ich Benutzer 17? | Wie lösche ich Benutzer 71?
Was kostet der Versand nach Österreich? | Was kostet der Versand nach Italien?
Ist Gluten enthalten? | Ist kein Gluten enthalten?
Kann ich mit Karte zahlen? | Kann ich nicht mit Karte zahlen?
Wie aktiviere ich den Dunkelmodus? | Wie deaktiviere ich den Dunkelmodus?
Wann öffnet der Laden am Montag? | Wann öffnet der Laden am Dienstag?
Wann öffnet der Laden am Montag? | Wann schließt der Laden am Montag?
Quelle est la capitale de l'Espagne ? | Quelle est la capitale du Portugal ?
Comment activer les notifications ? | Comment désactiver les notifications ?
Est-ce que je peux payer en espèces ? | Est-ce que je ne peux pas payer en espèces ?
Quand commence le film ? | Quand finit le film ?
¿Cuánto cuesta el envío a México? | ¿Cuánto cuesta el envío a Chile?
¿Puedo pagar con tarjeta? | ¿No puedo pagar con tarjeta?
¿Cómo activo el modo oscuro? | ¿Cómo desactivo el modo oscuro?
Qual è la capitale d'Italia? | Qual è la capitale d'Austria?
Posso pagare con la carta? | Non posso pagare con la carta?
Como posso alterar a minha senha? | Como posso apagar a minha senha?
What is our refund policy for EU customers? | What is our refund policy for US customers?
List the users with role admin | List the users with role guest
Which of these is a mammal: bat or owl? | Which of these is a bird: bat or owl?
Tell me a fact about the Sun | Tell me a fact about the Moon
Play the first song | Play the next song
Show my latest transactions | Show my oldest transactions
Is the train to Hamburg on time? | Is the bus to Hamburg on time?
How many calories are in an apple? | How many calories are in a banana?
How many calories are in an apple? | How much sugar is in an apple?
Set an alarm for 6 am | Set an alarm for 6 pm
Set a timer for ten minutes | Set a timer for ten seconds
"""


def pairs(text: str) -> list[tuple[str, str]]:
    """The pairs of such a text."""
    found = [line.partition("|") for line in text.strip().splitlines()]
    return [(first.strip(), second.strip()) for first, _, second in found]
