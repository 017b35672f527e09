"""List encrypted exports of real apps, as the project Aegis publishes them for its own tests, and their content.

Source: app/src/test of github.com/beemdevelopment/Aegis: resources importers/aegis_encrypted.json (of Aegis) and
importers/2fas_authenticator_encrypted.2fas (of 2FAS 3.8.2); passphrase and accounts as in DatabaseImporterTest.
"""

from __future__ import annotations

import json
from typing import NamedTuple

PASSPHRASE = "test"


class Account(NamedTuple):
    """The fields in an export; `counting` is the period of a TOTP account and the counter of an HOTP account."""

    kind: str
    issuer: str
    name: str
    secret: str
    algorithm: str
    digits: int
    counting: int


ACCOUNTS = (
    Account("totp", "Deno", "Mason", "4SJHB4GSD43FZBAI7C2HLRJGPQ", "SHA1", 6, 30),
    Account("totp", "SPDX", "James", "5OM4WOOGPLQEF6UGN3CPEOOLWU", "SHA256", 7, 20),
    Account("totp", "Airbnb", "Elijah", "7ELGJSGXNCCTV3O6LKJWYFV2RA", "SHA512", 8, 50),
    Account("hotp", "Issuu", "James", "YOOMIXWS5GN6RTBPUFFWKTW5M4", "SHA1", 6, 1),
    Account("hotp", "Air Canada", "Benjamin", "KUVJJOM753IHTNDSZVCNKL7GII", "SHA256", 7, 50),
    Account("hotp", "WWE", "Mason", "5VAML3X35THCEBVRLV24CGBKOY", "SHA512", 8, 10300),
)
STEAM_SECRET = "JRZCL47CMXVOQMNPZR2F7J4RGI"
"""The secret of "Boeing Sophia", the last entry."""

AEGIS = json.dumps(
    {
        "version": 1,
        "header": {
            "slots": [
                {
                    "type": 1,
                    "uuid": "a8325752-c1be-458a-9b3e-5e0a8154d9ec",
                    "key": "491d44550430ba248986b904b8cffd3a6c5755d176ac877bd11b82c934225017",
                    "key_params": {"nonce": "e9705513ba4951fa7a0608d2", "tag": "931237af257b83c693ddb8f9a7eddaf0"},
                    "n": 32768,
                    "r": 8,
                    "p": 1,
                    "salt": "27ea9ae53fa2f08a8dcd201615a8229422647b3058f9f36b08f9457e62888be1",
                    "repaired": True,
                }
            ],
            "params": {"nonce": "095fd13dee336fa56b4634ff", "tag": "5db2470edf2d12f82a89ae7f48ccd50c"},
        },
        "db": (
            "RtGfUrZ01nzRnvHjPJGyWjfa6shQ7NYwa491CgAWNBM8OeGZVIHhnDAVlVWNlSoq2V097p5Yq5m+SFl5g9nBBBQBNePQnj6CCvu1NfNtoA6R"
            "3hyp77gd+e+O2MRnOGH1Z1laV2Tl6p3q8IUHWgAJ36LbUxiCXmfh7bWm198uA4bgLwrEmo04MrqeYXggLuXrJrp6dUJQFD72dgoPbHijlSyc"
            "Y5GLel3ZbAXRsUHszd+xdywpj7/TYa4OYFel0M0QcCpsKA1LRQz365X9OXPJdTsmVyR4dJ6x5RIVeh39lAYKUf7T4w7BLC8taST5m4J/VXDu"
            "eKbvg8R13bNWF0aRHUgeuI9BNzMZINJlzKFKNRknTaJ/1kEUU0sLkgcaVkX/DVTGG+pWi5MHijicrK0i4LHN3CUwV2//ZNJCGXM5ErsKMOnJ"
            "fma52gMdifPiXU317Klvc5oOZFYGnhbhJ2WtPIuqjdvnfuLat2JxA7Xx3LqquRWGL2113yjzVzGBDCVY6iIdedBEgH8CGD826/3R3m6dR5sf"
            "SggQ2SbtQA/DZNhLSNSU+bfNScVQvUWfR2Lf7Q/4FR/xATAQJ9IIBeL+w2ErLUPjURocFXup5YOBHxFdDjZ2FqhbAq4h3Zn/BJ57xUcYEA+Y"
            "tP5uOP2lQwUh/0vFWizDVotzraO8tZiBZBsODyb69eJrXNwFbIjeUczY6wrJs1+676IilbCsmtoYvWEpUZF4hIi7TYAD+nyXX/olrkog9omW"
            "Zk8R7hJ9KRDfckXEc/XSzWhk3Kmfa7pRNh9wYZsaR7VPZGZebQMuUKfRRci2qMsZOJvQsDBJvVze0xW9SqiySDgGyRX/DwzuaZEGZZriaLf6"
            "ox7LwY2Qi6QpYOYbAaEaXAesCR1DPxFfGKsUHVjF8hKA6ZBXDXdqM3Y+14naIOH9S7UzYn32botoVLOykSjnW6z6M0ZPkz3dwowMJiVQcyD7"
            "p+9p4J6f1S81pFS7DP+jF+PTyC3c3q/dwFhNdoG6iV9eQEAxjUi6MpzvFRsk9RsLcQqYgzJGmRjYeXlKH8k8tTu1A4puo6w3Daz8hZz9NafM"
            "gMsuqY0oKVLgdNqFz8yVMsxYfBW/oW56SuQyyVWyxXjXmbk1vpYCTL5kXvIZWoTmBRRDb0ay5S/dlD6z/WR45/C4AwcCE9m4Yf3zisRNa7Aq"
            "WLVgkmJxFdfJxjiuPtUIK79s+lIJkyRENEqkvm809qIxDhkQzY8zcCt4oXCEbJUfSG4awBs1VvilJIwe6qi0bNtqXtAb5TctgxTh29A9oGls"
            "RG4o8sHqA1mtjp5QiLWp5Hh6rOH95W6+fnBiOW+Iw0evBTduroWvx37HBTktJz79zGe0l3c0Y6VmiFvB7knmT2CrgP7woRkxGbXxdE9zMPQJ"
            "M9ursD538MVDdD/0tdkxHxilt47f1DPo2CKUWU8Q1KMm1zLXfVO8BbGUWIv4YeDKHfMUL/HcStv5VJY+LbnOEjzGT4e1/avSQmqBL4G9XNkY"
            "myMhC8tlLQcmMMH4bNfPOO3vi5Pb5E7XveSgxlOHs4F0+nqxnFOAu8494MEtx6u5+B7d8LI/DhEO5zTDwE+THiKej6vCsFxTZ519rm67HycO"
            "wRR4LKrwfDeUEK3X1PzryOD5zcv3PMcSBgZ8EWvTfZ9ygKP8BmRQRpydTbSt8Hj5fTUuajADCP0Ggw+6G7n+5FhExJNd+o9D8d4KgLPOe08M"
            "8InW7pLB389TWtSo4v3VNjcmmJNQ26wlPkhO/xBU1URFR0fXU3eCO+w++IMt/fOSqSpNF9bWElfWHIQ23ntxVke/hR9j/GG3tHGxYS5pL42s"
            "JF/Re/UlUJTGSQP6up2xVYs6gncQ0zACDOPjLQmQzYhz/hr8S6EjYfK++yLZmRTjEI7xT9u/B5YLyOQCYVTaF/pDEegjsehXM3qJBfsA+XY7"
            "F9TRsmM/MSVaPDkdIJ7zvL9xtaF6bXdZoZ6po3ml8uu41pSkNmMKgyEy5E0UQUTWMPLC8drUoQ/KWQnVIN6HUXGBjYy6aax/LYZaBcbZi97F"
            "HK0h+wsx3WN/uQozNkQjwGYE8fwYxRYh1RaFi5PkiCM505ib7e82Yuts0l+cBb6nG1IruDplg9BD/G9w4vVDePEikhcPyY/p7AZ4i7u/bL2Y"
            "KlbE3HyJa+7dkbWJgGidtRZgu+Fdl2T/rrRJ4+lVaKPVKGKT7ItZdIeitIYUdRxCzrOf1ItZCC8BWa4PElDAjj2yDNmMYRpXJBe3gQHWs/H5"
            "SZgFuwsfCu23uzNRQYib8SuwIJQDvPiXo7m4oIySO8VyvemcExlbXSlbZbvwVxYavTVfcUpAXI6qlsg2jjk+JZahfKrWNC5COZPdVjdAXCoi"
            "KU+HBPmEFCwQv/7zlSBEiI2piyqd+MPwnP63RdGO+oXYid6hn4Nm8kcOhtRyvYm95p66jzGlEugsfxJCED7MTh3XShqa2tt4lFG25icllzTv"
            "IJboRkz5oIB4dZVS9+q2TgGUoX7UCpobD8WkHo/y0cpTuZr8vzXqx2fObxzPNoVgxJmp9E06G2bhMVHPpT17xbfq/KhJJn7k1S0sfXPG+SmY"
            "lX4U7zNSe1M7JXtLf3uVOLz7Ccjp3yvcdq8nRmVym3Zwsz+vv57FA2A0dy3Db97ypJa9HGaxnnYIZHHzep0gJCeeIKE9L32zGCoUg+cPu9B2"
            "lPEgIr64iGiuvKSRwNQpOBktM6qqjQntE0Me6mh426irFQ/3tcfH9a4lZEwwuU1X+lUBUWQp3n5Ej4BSJEs8E6H0EjBvyk69q3qjy5yi7ROV"
            "Ris6y6S1v4er77RHQUf3phK5354VJHrp9pR926t5qngH5RVF4eljwtXDs3MkejADJ6stBHa/w7FcbUClO8U+S4Bidxb3mZCiZkUVTpbzvBfY"
            "AiQvAfdkMa49o3a5DXKsbXyUPrmr6fWRfM1fS0Ehp0lUv6BDj0yR13CLMpKDU4GfDrl8UEvwh7gwtBRkuaBFzyMtd3NeE7kIGf9vFs6MEl2d"
            "mMDFSDid7MdVSDVTlhaAtp+zsRejKW3OQr5n051FzkUsIFGty9AWOkwjZCbstHYCOtyJnsnXP1i9lRDFBgPpFgmDD+bzzg0g9AOAxzqTiLF7"
            "bb1jejfe5qVr5V9+7zLpwRLiYaLkNOmpsqvNMuYVwdqTp6nyoougdgBlvve3EG0k09sFKi2Ep9lq+QkS7zGre2jJDrqgdC08+V4PXHYkP3V3"
            "Zjgn1x6RfQ2PE+2zvk1GGEgzcNww3byoYw0Ra5qS5yftMy/2WahbA8fjUYvtmksFH8VjN3yasZt3sdQLWtv8qXxZscy+pCyjTdyxW+ddFnrW"
            "uqMIV3jbGMvngq6dL/n5+DumjbA1gmBJVOpmyEsc1iwHDS36cNnyi1htGFO/6/Va4YPYK7dG6LY387UoBUU9Q9ijrBrSGpzPWYmXBLZ8e1MM"
            "PfHIN1WsaTgYO9leg3MAJTjQFTFrQ5dguYpWhlm2sWJT45jrda4uWqduB+aQLzYRWhEDBFzPV3ZgIe0SB+7h04Vm0Pu/LDRvqaolpZ86CEm+"
            "zgjBOKeEGFwzTXxH/5pBoca1bZ6wvsbVZxJNBeH8/w=="
        ),
    }
)

TWOFAS = json.dumps(
    {
        "services": [],
        "updatedAt": 1644513883359,
        "schemaVersion": 2,
        "appVersionCode": 3080200,
        "appVersionName": "3.8.2",
        "appOrigin": "android",
        "groups": [],
        "servicesEncrypted": (
            "5UGWlz8mZARCfCtbDgwAr0pjWORfch9aK+El1Eed9Axi6cQcaJKPTfwlZ3XDS7rGRZbw0yt9fs2ALp3SBcfTAVAHyw3sE9kyQobPieTtdQLe"
            "UrOp8JT6HrfGQKwpuZHLGmSmXXjWPmX8cBnESYijg8Es5J6pnsgCkOIMluJndkD8BI3HK8tcVWfk28UA2LZrvtLXY8W3/+MSL0qJrjMsldqC"
            "6+NszCuWAJpqDDPZK9CyD1DbxTYplTHm+UlJWzdNpB0v1VVtGFHhRbrrRuG0BKXXN65nkw9aAUXpSSvgGgNGHZMwsmBVy/192gKN/pR8c31g"
            "qP4Yv959mjAGob1Wme1SaE0Oc4RGuOM3H8PINSf6acQSH1P3EnIjLm79snANmKW24B78CDvFeVcr9AupfbOYE7Tr2jJ23Gp06r73Jb55beZ5"
            "OYKwYGw/EyzeV6qNd6A2e/D98gTpyFP5Tcvxh3NWIMmc/hzUZ449ZbZ1D3daxZN5pjkNHdb6616tpjtj1uxQTQBxwkAU6Gb0PrPasUtHD+QD"
            "LL5r1MvO4LRdiFWWrD2aTlhf2OOrrdsG4L6/CZWgf/TnyAy7f/gCpdJ/VVyESixlb7+AlqlZhOltQNOWd7j+aWUTxhmLpQ55vXOL5slYtibu"
            "QkSRVwL6CvY9SB5DpBYp7Yq5tD3ydV+S8S1imk+lq9PcxUO5Ex1TbwXVFucwuRKLlAA1TILIvMHJIyu1Zc8U409E1BThUxKI2S+t3fA9cl3a"
            "hTb8hmI1tGojLnwL+9OAIoIoTqZSd/EWeECpqEadveboGuhdZsCXoi8UYaEYXrtApaGJ+V27POUDQbIALkgqJO0XVpSfeogPvyw08olOs36a"
            "UIfsDZ2Uwc8G9/pg3u1KPeIf87SJO+HSGnoYMw0BjRXwbOuMANoJQrSbm5c34iOklJ7W0IDIIgPfVPKrJaE+D2pzbm0rBnh4/p8w8an1V3y5"
            "b1kEsDWqU0uWI4zToToBrbqVxnEvQEvWqAa2/MWCUC1QMy+t3KcZCl9wEWiNQ7JuHdY0WnWWjXRCq2AG3tIcqYsidX3MX8ku+Gyl+VqIthyB"
            "1RLPDQiNnZOIsfO2fscIfipuPSIDZMsaB4x04KAfhBG1RJHtFWAjgGrjPK/u6WGydGABxAgNv/CjmjgKx4ZzIksvkvARiDtcypy09pJz0Fsb"
            "GEUr7q2vv7VXCHYprhM=:"
            "sOQnCCWbD76OERGCIMeG3Y1pg1skE4yKkqCg0iKW3HKyfPeOEEQ+xqSIhyNJiW4Q6HPYa4tYl2zViNv+JK/pj65fpSEna55myY101Gx2gF7V"
            "Ujuj1ujd+iz/ib17DAedbMRu2IY/bxjJ295yAX+iKxQZSBSt4MwXKCtT1/HyfTNNmkCSblXQpfhuN0WiwFWGoQB1IPFVwKejD0JknBviVtbF"
            "CMg9VPvNYXGk7hyhOh2KnRrNQVGGYwGqoZI20lg1VK0Nn0E6eDc8MMD0ljUHKWQWGDRsriojCA4beaxtWTdtHHy2LBA5kiOv6nb62O5TsIns"
            "cTxcJ/2CBUJOVY+eJQ==:"
            "fCOmxT+T1J6nT5OX"
        ),
    }
)
