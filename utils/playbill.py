"""The words and lines of the mock plays: the data of the grammar in utils/mock_corpus.py.

All of it was written for this course.
"""

# Ten speakers: name, rank and forms of address; then their nouns and their verbs (which all take an
# s), their adjectives, and their places.
PLAYBILL = """\
KING ALDRIC = 5 = my liege|great king|your majesty|royal sir
crown throne realm sceptre banner vassal subject castle kingdom tower traitor decree herald border
command rule govern pardon conquer summon exalt condemn reward knight defend inherit
royal sovereign loyal mighty lawful rebellious ancient golden proud solemn majestic just
in the council chamber|upon the battlements|within the citadel|before the palace gate

QUEEN MAUDE = 5 = my queen|gracious madam|your highness|sovereign lady
rose garden petal orchard thorn root blossom fountain willow arbour sparrow vine meadow bough violet
gather tend plant water shelter prune ripen scatter perfume adorn wither entwine
fair gentle sweet fragrant tender green pale summer blooming silver quiet lovely
beside the fountain|under the willow|among the roses|in the walled garden

DUKE ORMOND = 4 = my lord duke|noble Ormond|my good lord
hound falcon stag forest arrow bow hunter quarry thicket hawk antler trail saddle spur glade stream
chase wound follow track pursue spare capture startle trap outrun corner loose
swift wild fierce wary hidden tawny cunning noble restless keen mossy breathless
in the deep forest|past the old mill|where the stag drinks|by the hunting lodge

LADY ROSAMUND = 4 = sweet lady|fair Rosamund|my lady
heart song lute sigh lover sonnet tear dream glance whisper verse tune promise ribbon chord mirror
adore woo sing charm enchant desire flatter soothe forsake remember praise treasure
constant trembling secret rapt blushing faithful wistful dear melting lonely gracious shy
beneath my window|in the music room|on the moonlit stair|behind the tapestry

CAPTAIN BRAND = 3 = good captain|brave Brand|stout soldier
soldier lance shield drum cannon siege regiment helmet spear rampart foe battle sentinel gauntlet
guard defeat assault besiege shatter storm resist strike disarm repel muster avenge
bloody iron valiant stubborn bold grim scarlet unbroken hardy ruthless battered dreadful
upon the field|behind the rampart|at the northern pass|inside my tent

FRIAR ANSELM = 3 = holy father|good friar|reverend Anselm
soul prayer angel sin altar candle saint psalm relic blessing penance pilgrim chapel sermon grave
forgive absolve redeem hallow save mourn comfort anoint deliver heal judge chasten
holy humble blessed eternal penitent meek divine sacred mortal contrite merciful patient
before the altar|in the quiet cloister|among the graves|under the chapel floor

First Sailor = 2 = honest sailor|good fellow|old salt
ship wave anchor sail tempest mast oar harbour tide gull rudder reef rope pilot island lantern
steer drown haul moor swallow batter wreck hoist float caulk salvage tow
salt stormy foaming northern drowned tattered windy briny roaring weary barnacled deep
below the deck|beyond the reef|across the bay|atop the mast

Merchant = 2 = worthy merchant|good master|careful sir
coin purse ledger debt bargain barrel silk spice ducat wagon scale profit creditor bale market
buy sell weigh borrow barter count lend trade measure insure hoard squander
costly cheap honest weighty foreign counterfeit precious thrifty scarce bankrupt gilded dry
in my strongbox|at the market cross|under the counter|aboard the barge

Nurse = 1 = good nurse|dear old mother|kind gossip
cradle kettle blanket babe apron spoon pillow supper hearth needle stocking broth thimble cupboard
feed mend stir scold coddle swaddle knead warm scrub boil sweeten darn
cosy drowsy plump hungry naughty buttered motherly woollen hot clean sleepy little
by the hearth|in the linen chest|under the cradle|behind the kettle

Fool = 0 = good fool|sirrah|merry rogue
donkey riddle pudding bauble jest nose cuckoo owl herring monkey fiddle cabbage onion turnip goblin
tickle juggle mock bite outwit tease gobble mimic nibble befuddle kick bewilder
merry foolish upside-down crooked silly hairy tipsy pickled mad wooden ridiculous lopsided
up my sleeve|inside a pudding|on the moon|down the well
"""

# The nouns, verbs and adjectives that all speakers share; they are used 60% of the time.
SHARED = """\
hand eye face voice word deed thought hope fear grief joy vow lie truth name friend father cousin
neighbour servant prince beggar thief widow orphan ghost house door window wall road bridge river
mountain valley cloud star moon dawn evening winter spring season year hour moment morning journey
fire flame ember stone rock feather wing lion serpent lamb raven barrow table bed chair cloak glove
mantle ladder bone limb finger shoulder fever slumber burden fault quarrel cause reason custom
fortune fate doom wonder game wager prize gift

love see know hear find keep leave break hold lift fear trust doubt hate honour obey serve help lose
win bring take give call name greet meet hurt burn cover hide open close bind cut draw pull turn
move raise lower change waste need want believe ignore question answer deceive protect destroy
abandon

good bad great small old young long short high low dark white black red grey blue cold fresh rich
poor brave wise weak strong sick sound happy angry sorry true false free heavy light quick slow soft
sharp blunt thin empty full bitter sour bare blind dumb rough smooth strange common noisy idle vain
rude guilty innocent kindly cruel distant
"""

CASTS = {
    "court": ("KING ALDRIC", "QUEEN MAUDE", "DUKE ORMOND"),
    "garden": ("QUEEN MAUDE", "LADY ROSAMUND", "Nurse"),
    "quay": ("CAPTAIN BRAND", "First Sailor", "Merchant"),
    "camp": ("KING ALDRIC", "FRIAR ANSELM", "CAPTAIN BRAND"),
    "market": ("Merchant", "DUKE ORMOND", "Fool"),
    "shore": ("LADY ROSAMUND", "First Sailor"),
    "kitchen": ("Nurse", "Fool"),
    "chapel": ("FRIAR ANSELM", "LADY ROSAMUND", "Nurse"),
    "forest": ("DUKE ORMOND", "CAPTAIN BRAND"),
    "hall": ("KING ALDRIC", "Fool"),
}
# Speakers say "you" to equals and superiors and "thou" to inferiors. Those of high rank say "doth",
# the others "does".
PRONOUNS = "thou art hast thy thee dost didst"
YOU = dict(zip(PRONOUNS.split(), ["you", "are", "have", "your", "you", "do", "did"], strict=True))
THOU = {word: word for word in YOU}
GREAT, SMALL = {"hath": "hath", "doth": "doth"}, {"hath": "has", "doth": "does"}
GREAT_RANK = 3

DETERMINERS = ["the", "this", "my", "that", "our", "every", "some", "no", "yonder", "another"]
PREPOSITIONS = ["near", "with", "over", "amid", "against", "outside", "opposite"]
ADVERBS = ["gladly", "softly", "ever", "boldly", "often", "seldom", "gently", "surely", "still"]
MODALS = ["shall", "must", "will", "may", "can", "would", "might", "should"]

# In the templates below, {noun}, {verb}, {adj} and {place} are the speaker's words; {do} is a verb
# with or without an adverb, {thing} a noun with or without an adjective, {call} the listener's form
# of address, {the} a determiner, {must} a modal verb and {a|b|c} one of three texts. $words are the
# pronouns and verb forms above, and / is a new line.
LINES = """\
The {adj} {noun} $doth {do} {the} {thing};
My {thing} is {adj}, and my {thing} is {adj}.
Did I not {do} {the} {thing} {place}?
O {adj} {noun}, O {adj} {noun}!
If {the} {thing} be {adj}, then let {the} {thing}/Go {do} the {adj} {noun}s {place}.
And who {must} {do} {the} {thing}, {must} {do} {the} {thing}.
But every {thing} {must} {do} some {adj} {noun},
No {thing} so {adj} but $hath lost {the} {thing}.
What {adj} {noun}s do {do} us {place}!
While {thing}s grow {adj}, {thing}s grow {adj} too.
I {must} {do} this {adj} {noun} {place},/And {do} {the} {thing} that {must} {do} {the} {thing}.
For I have seen {the} {thing} {do} {the} {thing},
Let {adj} {noun}s {do} what {thing}s they can,
There stands {the} {thing}, {adj} as {the} {thing}:
Yet {adj} is {the} {thing}, and {adj} {the} {thing},/That $hath no {thing} to {do} it {place}.
This {thing}, this {adj} {noun}, this {thing} of mine,
So {adj} were the {thing}s {place},
How many {thing}s have I seen {do} {the} {thing}!
Now {adj}, now {adj}, goes {the} {thing} {place};
Some say {the} {thing} $doth {do} us; I say {the} {thing}.
Nor {thing} nor {thing} {must} {do} {the} {adj} {noun}.
As {adj} as {the} {thing} that {verb}s {the} {thing},/So {adj} is {the} {thing} I {must} {do}.
Though {thing}s {do} {thing}s, {the} {thing} is {adj}.
These {adj} {noun}s {must} {do} the very {thing}!
Would {the} {thing} were {adj}, and {the} {thing} {place}!
Until {the} {thing} $doth {do} {the} {thing} once more,
Not all the {thing}s {place}/Could {do} {the} {thing}, nor make {the} {thing} less {adj}.
Once was {the} {thing} {adj}; now {the} {thing} is {adj}.
""".splitlines()
PLEAS = """\
Well do I know $thee, {call}; $thou $dost {do} {the} {thing}.
$Thou $art as {adj} as {the} {thing}, {call}.
Hear me, {call}: $thy {thing} is {adj}.
Believe me, {call}, I {must} {do} $thy {thing}.
Give me $thy {thing}, {call}, and {do} my {thing}.
Alas, {call}, {the} {thing} {must} {do} $thee {place}.
Speak not of {thing}s, {call}, lest they {do} $thee.
$Thy {thing}, {call}, $hath met my {thing} {place}.
""".splitlines()
GREETINGS = """\
Good morrow, {call}; {the} {thing} is {adj}.
Well met, {call}: $thou $art {adj} to-day.
God save $thee, {call}, from every {adj} {noun}.
Welcome, {call}; I looked for $thee {place}.
""".splitlines()
TOPICS = ["letter", "ring", "key", "casket", "map", "horse"]
EXCHANGES = """\
Where is the $topic, {call}? = The $topic is {place}.
Who $hath the $topic, {call}? = {The king|My brother|A beggar|No man} $hath the $topic.
When shall I see the $topic, {call}? = {At dawn|To-night|On Sunday} I will show $thee the $topic.
Why $didst $thou hide the $topic, {call}? = I hid the $topic to {do} the {thing}.
$Hast $thou my $topic, {call}? = {Ay|Nay|Not I|In truth}, I had $thy $topic {place}.
Bring me the $topic, {call}. = I go to bring $thee the $topic.
""".splitlines()
NOISES = ["trumpet", "bell", "shout", "thunderclap", "drum"]
COUPLETS = """\
Thus falls the {thing} at the close of {day|play|May},/And {adj} {noun}s steal away like {hay|clay}.
Here ends the {adj} {noun} in the {night|fight},/And {thing}s {do} what once was {bright|light}.
Come, let the {thing} have its {sleep|sweep}:/The {thing}s are {adj}, and the well is {deep|steep}.
Away, away, the {thing} seeks the {shore|door}:/The {adj} {noun}s shall {do} us no {more|war}.
Farewell to all; the {thing} is {found|bound}/Before the {adj} {noun} runs {aground|around}.
""".splitlines()
