"""Closed word lists that the scene rules read: prepositions of several words, groups, colours, materials, people.

The lists are ours, from general knowledge of English; what a caption's words mean in a graph was checked on the
training split of FACTUAL.
"""

from __future__ import annotations


def word_set(text: str) -> frozenset[str]:
    """The words of `text`."""
    return frozenset(text.split())


# ---------------------------------------------------------------- prepositions

FIXED_PREPOSITIONS = (
    "in front of", "in back of", "next to", "close to", "near to", "adjacent to", "out of", "off of", "inside of",
    "outside of", "across from", "away from", "far from", "along with", "together with", "ahead of", "in between",
    "side by side with", "in addition to", "in line with", "on board of", "up against", "in the midst of",
    "opposite to", "on to", "all over", "all around", "underneath of", "alongside of", "as part of",
)
SIDE_PREPOSITIONS = ("on", "in", "at", "to", "from", "by", "along", "towards", "toward")
SIDES = word_set("side sides top bottom back front rear edge edges corner corners middle center centre end ends tip "
                 "base foot inside outside left right rim")
"""Nouns of place: "on the SIDE of"."""
SIDE_QUALITIES = word_set("left right other opposite far near either both each one same left-hand right-hand upper "
                          "lower back front top bottom very inner outer")
SAME_PREPOSITION = {
    "underneath": "under", "beneath": "under", "underneath of": "under", "atop": "on top of", "at top of": "on top of",
    "upon": "on", "on to": "onto", "amongst": "among", "in between": "between", "inside of": "inside",
    "outside of": "outside", "off of": "off", "alongside of": "alongside", "along side": "alongside", "near to": "near",
    "toward": "towards", "all over": "over", "all around": "around", "up against": "against", "opposite to": "opposite",
}
"""Spellings of one relation of place, and the one that priors use."""
PLACE_WORDS = word_set("near behind under above below beside inside outside over underneath beneath alongside atop "
                       "between across around against along onto upon")
"""Prepositions that parsers read as adjectives or adverbs."""
NO_RELATION = word_set("like as for about during after before until since because despite per than except besides "
                       "without if while when that to")
"""Case marks of a noun that stand for no relation between things in a picture. "to" is kept after verbs."""

# ---------------------------------------------------------------- nouns that stand for another noun

GROUPS = word_set("group groups bunch bunches lot lots number row rows series set sets variety herd herds flock "
                  "flocks crowd pile piles stack stacks bit bits plenty array collection assortment bundle bundles "
                  "cluster clusters batch handful hundreds thousands kind kinds type types sort sorts part parts "
                  "portion majority rest pack swarm load loads ton tons body clump clumps dozens sea range couples "
                  "mass team amount abundance selection")
"""Of what they hold only that is an object: "a group of people" is people."""
UNITS = word_set("piece pieces slice slices patch patches couple pair pairs dozen bouquet strip strips chunk chunks "
                 "scrap scraps blade blades head sheet sheets lump lumps")
"""The same, and a number before them counts what they hold: "two slices of pizza"."""
UNIT_COUNTS = {"couple": 2, "pair": 2, "dozen": 12}
PAIRED = word_set("pants trousers jeans shorts scissors glasses sunglasses spectacles binoculars tights pliers "
                  "leggings tweezers goggles headphones pajamas eyeglasses overalls tongs")
"""One thing although the word is plural: "a pair of scissors" is one."""
PICTURES = word_set("picture pictures photo photos photograph photographs image images snapshot screenshot pic shot "
                    "scene depiction illustration rendering close-up closeup view footage caption description")
"""Words for the picture itself."""
BACKDROPS = word_set("background foreground distance backdrop")
FRAMES = PICTURES | BACKDROPS | {"frame"}
"""What "in the ..." may name without naming a thing."""
SHOWING = word_set("show depict feature display capture portray contain include present illustrate represent see "
                   "reveal picture photograph take describe have consist focus")
"""What a picture does with what is in it."""
CONTAINER_PREPOSITIONS = {
    **dict.fromkeys(("glass", "cup", "mug", "bottle", "jar", "can", "box", "basket", "bag", "pot", "bucket", "carton",
                     "crate", "pan", "jug", "pitcher", "tub", "line"), "in"),
    **dict.fromkeys(("plate", "tray", "platter", "dish", "rack"), "on"),
}
"""The noun before "of" holds the one after it: "a glass of wine" is wine in a glass."""
HOLDERS = word_set("container containers bowl vase field forest hill wall fence bed garden lake pool puddle stand "
                   "cart stall truck trailer sign string chain pillar street sea")
"""The noun before "of" has the one after it: "a field of grass"."""
OTHER_NOUNS = word_set("thing things something anything nothing everything one ones way time times day lot left "
                       "right far near upper lower middle each other there here that this these those color colour "
                       "colors sort kind")
TIME_NOUNS = word_set("day night morning evening afternoon daytime nighttime noon dusk dawn sunset summer winter "
                      "spring autumn fall today tonight time year season")

# ---------------------------------------------------------------- attributes

COLOURS = word_set("white black blue green red brown yellow gray grey orange silver pink tan purple beige gold "
                   "golden maroon turquoise teal burgundy navy cream violet magenta cyan lime khaki ivory crimson "
                   "scarlet lavender olive peach bronze copper blonde blond brunette aqua indigo charcoal "
                   "multicolored multi- colored colorful colourful multicoloured pinkish greenish reddish bluish "
                   "brownish yellowish whitish grayish")
SHADES = word_set("light dark bright pale deep navy royal sky baby hot lime olive forest neon")
"""Words that make one attribute with the colour after them: "light blue"."""
MATERIALS = word_set("wooden metal brick glass stone plastic concrete cement dirt rock paper steel gravel straw "
                     "leather marble wicker denim cardboard bamboo rubber ceramic porcelain tile tiled iron aluminum "
                     "chrome brass granite wool cotton silk velvet lace plaid checkered floral striped polka-dot "
                     "hardwood linoleum stucco asphalt adobe clay copper bronze mesh wire foam fabric vinyl suede "
                     "flannel knit crystal stainless wood")
SAME_ATTRIBUTE = {"wood": "wooden", "multi-coloured": "multi-colored", "multicoloured": "multicolored"}
KINDS = word_set("baby adult male female mother toy square adolescent teen wii")
"""Nouns before a noun that say what it is like rather than which kind of thing it is: "a baby elephant"."""
NAME_NOUNS = word_set("tennis baseball soccer football basketball volleyball ski snow street sea traffic train trash "
                      "garbage wine coffee tea kitchen bathroom bedroom office home house garden window door desk "
                      "table wall city bus car truck bike motorcycle boat airplane plane tree palm pine flower grass "
                      "beach mountain dog cat horse elephant giraffe zebra bear bird cow sheep computer laptop phone "
                      "picture ball surf skate parking stop fire power water food pizza cake fruit front back left "
                      "right rear side")
"""Words before a noun that parsers read as adjectives although they are part of its name."""
ING_NOUNS = word_set("building ceiling railing painting clothing wing ring string king swing thing lettering writing "
                     "wedding evening morning topping frosting icing awning bedding siding crossing landing opening "
                     "covering drawing earring meeting parking lighting housing dressing molding fencing flooring "
                     "carving marking filling wiring shingling netting stuffing outing being duckling spring sling "
                     "sibling dumpling pudding stocking lightning living dining sitting-room shelving matting tiling "
                     "paneling trimming edging")
"""Nouns in -ing."""
FINITE_VERBS = word_set("wears holds sits stands rides eats plays walks swings hits lies lays runs flies carries "
                        "watches catches throws jumps leans rests has looks hangs barks smiles stares falls floats "
                        "grows")
"""Verbs that parsers read as plural nouns: "girl wears a helmet"."""
FULL_OF = word_set("covered filled lined topped surrounded")
"""Participles whose doer may stand before them: "snow covered branches"."""
CONTROL_VERBS = word_set("watch see help let make have show keep get catch find ask allow teach leave feed force "
                         "hear tell enjoy photograph film")
"""The object of these does what the verb after it says: "watching a man ride"."""
ADJECTIVES = word_set("grassy leafy sandy rocky snowy cloudy sunny wooded fluffy furry rusty dusty muddy bushy puffy "
                      "heavyset reddish bluish greenish yellowish sparse dry hazy wispy curly stuffed potted "
                      "electrical outdoor indoor")
"""Adjectives that parsers read as nouns."""
UNIT_ATTRIBUTES = {"piece": "piece", "pieces": "piece", "slice": "slice", "slices": "slice", "patch": "patch",
                   "patches": "patch"}
"""Units that say what their content is like: "a slice of pizza" is pizza, a slice."""
POSTURES = word_set("hang sit lie lay squat stand kneel crouch bend lean rest look walk")
"""After these "down" and "up" add nothing to a place: "lying down on the couch" is on it."""
COMPOUND_ADJECTIVES = word_set("hot-dog hot-dogs teddy-bear polar-bear polar-bears grizzly-bear palm-tree french- "
                               "fries french-fry living-room dining-room high-chair wild-life flat-screen public- "
                               "transit electrical-outlet remote-control parking-meter parking-lot solar-panel "
                               "solar-panels remote-controls christmas-tree sweet-potato potted-plant green-house "
                               "cutting-board folding-chair ironing-board frying-pan washing-machine swimming-pool "
                               "sleeping-bag running-shoes steering-wheel traffic-light rocking-chair rolling-pin "
                               "chopping-board mixing-bowl baking-sheet fishing-rod skiing-gear shopping-cart "
                               "shopping-bag fishing- boat fishing-pole skating-rink walking-stick dining-table "
                               "coffee-table living-rooms changing-table drinking-glass drinking-fountain landing- "
                               "gear racing-car wet-suit big- ben front-door black-board")
"""Adjective and noun that are one name together."""
QUANTITIES = word_set("many several few some other various numerous multiple more such own additional any all both "
                      "each every another much most enough lots little-bit less certain entire whole")
"""Adjectives that count or point rather than describe."""
ED_ADJECTIVES = word_set("haired sleeved colored coloured shaped legged eyed faced tailed necked sided headed "
                         "patterned skinned winged decker story storied")
"""What makes one attribute with the word before it: "long sleeved"."""

# ---------------------------------------------------------------- numbers

NUMBERS = {word: value for value, word in enumerate(
    ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
     "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"), start=1)} | {
    "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90, "hundred": 100,
    "dozen": 12, "single": 1}
MAX_COUNT = 10_000

# ---------------------------------------------------------------- people

MEN = word_set("man boy guy father husband son brother gentleman king waiter actor policeman fireman uncle "
               "grandfather groom businessman salesman fisherman cowboy dad male prince dude lad")
WOMEN = word_set("woman girl lady mother wife daughter sister queen waitress actress aunt grandmother bride mom "
                 "female princess policewoman")
PEOPLE = MEN | WOMEN | word_set(
    "person people child kid baby player skier surfer skateboarder snowboarder rider skater batter catcher pitcher "
    "umpire worker teacher student doctor nurse chef cook driver pilot soldier officer cyclist biker pedestrian "
    "couple toddler infant teenager adult spectator referee athlete swimmer farmer artist singer dancer musician "
    "customer tourist passenger photographer police fan individual family team crowd audience human cop motorcyclist "
    "bicyclist someone somebody hiker climber runner jogger golfer clown friend neighbor firefighter engineer vendor "
    "sailor captain hunter conductor mechanic surgeon patient judge model mannequin youth senior jockey guitarist "
    "teen twin")
ANIMALS = word_set("dog cat horse elephant giraffe zebra cow sheep bird bear lion tiger duck goose goat pig monkey "
                   "rabbit puppy kitten bull calf deer animal lamb pony swan owl penguin parrot fish turtle frog "
                   "mouse rat chicken rooster hen seagull pigeon wolf fox panda camel donkey")
CLOTHES = word_set("shirt t-shirt shorts pants jeans suit jacket coat dress skirt hat cap helmet uniform outfit vest "
                   "sweater hoodie sweatshirt tie shoes boots sneakers sandals socks gloves scarf glasses sunglasses "
                   "goggles clothes clothing wetsuit robe apron gown jersey blouse tank-top trousers costume attire "
                   "tights leggings overalls tuxedo swimsuit bikini trunks pajamas gear bonnet beanie")

THINGS = word_set("skateboard surfboard snowboard frisbee keyboard cupboard cardboard billboard board boat train bus "
                  "truck car motorcycle bicycle bike scooter airplane plane kite umbrella backpack suitcase bottle "
                  "bowl cup plate fork knife spoon vase lamp chair couch sofa bench table desk bed toilet sink oven "
                  "stove microwave refrigerator fridge clock laptop cellphone phone remote television tv monitor "
                  "pillow blanket towel curtain rug carpet pizza sandwich donut doughnut cake banana apple orange "
                  "broccoli carrot tree bush flower leaf leaves grass sky cloud mountain hill river lake ocean beach "
                  "sand snow rock road street sidewalk building house wall fence door window roof sign pole hydrant "
                  "ball racket bat glove helmet ski skis")
"""Common things that parsers, which never read of some of them, take for adverbs or adjectives."""
AGENTIVE = word_set("wear hold sit stand walk ride carry look play run jump ski surf skateboard eat drink talk read "
                    "smile swing throw catch kick use wait lean kneel crouch squat lie lay dance cross watch")
"""What persons and animals do rather than things."""
PRONOUNS = {
    **dict.fromkeys(("he", "him", "his"), "he"), **dict.fromkeys(("she", "her", "hers"), "she"),
    **dict.fromkeys(("it", "its"), "it"), **dict.fromkeys(("they", "them", "their", "theirs"), "they"),
}
INDEFINITE = {
    **dict.fromkeys(("someone", "somebody", "anyone", "anybody", "everyone", "everybody"), "person"),
    **dict.fromkeys(("nobody", "no-one", "noone"), "person"), "something": "something",
}
NOBODY = word_set("nobody no-one noone")
RELATIVE = word_set("that which who whom whose where")
DEFINITE = word_set("the this that these those")
PERSON_OF_PRONOUN = {"he": "man", "she": "woman", "they": "people"}

# ---------------------------------------------------------------- verbs

LIGHT_VERBS = word_set("try attempt start begin continue prepare get seem appear look want use go keep stop need "
                       "plan about like love manage help let make come decide learn intend hope be have do can")
"""Verbs whose infinitive says what happens: "trying to catch a ball"."""
PLACING_VERBS = word_set("hold have carry wear put place rest watch keep see set stick lay push pull drop balance "
                         "eat find hang observe view bring park pour load throw cut drag lead follow feed contain "
                         "get show tuck")
"""A phrase of place after the object of these says where the object is: "holding a cup in his hand"."""
JOINING_VERBS = word_set("glue tape tack attach connect mount separate tie stick hang secure fasten chain nail pin "
                         "hook bolt link join")
"""Of two things beside their subject these say how the two are joined: "a wire connecting the pad to the computer"."""
STANDING_VERBS = word_set("park sit seat stand lie lay locate position place mount hang set station leave rest stop "
                          "perch situate crouch kneel line walk sleep run play")
"""After their participle "by" is a place, not who did it: "a car parked by the road"."""
COVERING = {("cover", "in"), ("cover", "with"), ("cover", "by"), ("surround", "by"), ("surround", "with"),
            ("surround", "in")}
"""Participle and preposition that are the active verb seen from the other end."""
LACKING_VERBS = word_set("lack miss")
DENIED_VERBS = word_set("have wear hold contain carry show include be see feature use")
"""Verbs whose negation denies their object: "is not wearing a hat"."""
DENYING = word_set("no without not n't never neither nor lacking minus sans cannot")
FREE_OF = word_set("free devoid empty bare void clear absent missing")
ABSENT_WORDS = word_set("absent missing gone visible present seen nowhere")
ORDERS = word_set("ignore disregard forget describe list print output write answer reply respond tell give note "
                  "repeat summarize translate explain pretend say please act follow")
"""First words of a sentence that asks its reader for something instead of describing."""
