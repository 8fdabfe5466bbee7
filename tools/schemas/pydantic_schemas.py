import sys, json, enum, typing_extensions, uuid, datetime, decimal, ipaddress, typing as T
from pydantic import *
from pydantic import BaseModel, Field, create_model
from annotated_types import Ge, Le, Gt, Lt, MultipleOf, Len
class Color(enum.Enum): red="red"; blue="blue"
class Num(enum.IntEnum): a=1; b=2
class Cat(BaseModel): kind: T.Literal["cat"]="cat"; lives: int
class Dog(BaseModel): kind: T.Literal["dog"]="dog"; bark: bool=True
class Node(BaseModel): v:int; kids:"list[Node]"=[]
class TD(typing_extensions.TypedDict, total=False): a:int; b:str
class NT(T.NamedTuple): x:int; y:str="q"
class Forbid(BaseModel): model_config=ConfigDict(extra="forbid"); a:int
class Allow(BaseModel): model_config=ConfigDict(extra="allow"); a:int
class Extra(BaseModel): model_config=ConfigDict(json_schema_extra={"examples":[{"a":1}],"x-thing":{"y":1}}); a:int
class Gen(BaseModel, T.Generic[T.TypeVar("X")]): v: T.Any
X=T.TypeVar("X")
class Box(BaseModel, T.Generic[X]): v: X
class Base(BaseModel): id:int
class Derived(Base): name:str=Field(alias="fullName")
class RM(RootModel[list[int]]): pass
types=dict(int=int,float=float,str=str,bool=bool,none=None,any=T.Any,bytes=bytes,date=datetime.date,dt=datetime.datetime,time=datetime.time,td=datetime.timedelta,dec=decimal.Decimal,decc=T.Annotated[decimal.Decimal,Field(max_digits=5,decimal_places=2)],uuid=uuid.UUID,uuid4=UUID4,ip4=ipaddress.IPv4Address,ip6=ipaddress.IPv6Address,ipany=IPvAnyAddress,net4=ipaddress.IPv4Network,url=AnyUrl,http=HttpUrl,secret=SecretStr,path=__import__("pathlib").Path,pat=__import__("re").Pattern,
 color=Color,num=Num,lit=T.Literal["a",1,None,True],opt=T.Optional[int],union=T.Union[int,str,list[float]],lst=list[int],lst2=T.Annotated[list[str],Len(1,3)],setlit=set[T.Literal["a","b","c"]],setcol=T.Annotated[set[Color],Len(1,2)],fset=frozenset[bool],setenum=set[T.Literal["a","b","c","d","e","f","g","h"]],tup=tuple[int,str],tupv=tuple[int,...],tup0=tuple[()],seq=T.Sequence[int],d=dict[str,int],dcol=dict[Color,int],dlit=dict[T.Literal["a","b"],float],dint=dict[int,str],dpat=dict[T.Annotated[str,Field(pattern="^[a-z]{2}$")],int],dlen=T.Annotated[dict[str,int],Len(1,3)],dmin=T.Annotated[dict[str,int],Len(1)],td2=TD,nt=NT,cat=Cat,pets=T.Annotated[T.Union[Cat,Dog],Field(discriminator="kind")],pets2=T.Union[Cat,Dog],node=Node,forbid=Forbid,allow=Allow,extra=Extra,boxi=Box[int],boxs=Box[list[Cat]],derived=Derived,rm=RM,
 ge=T.Annotated[int,Field(ge=0,le=100)],gt=T.Annotated[float,Field(gt=0,lt=1)],mul=T.Annotated[int,Field(multiple_of=5)],mulf=T.Annotated[float,Field(multiple_of=0.25,ge=0,le=10)],posint=PositiveInt,nnf=NonNegativeFloat,strict=StrictInt,big=T.Annotated[int,Field(ge=2**60)],sneg=T.Annotated[int,Field(le=-2**55)],slen=T.Annotated[str,Field(min_length=2,max_length=5)],spat=T.Annotated[str,Field(pattern=r"^\d{3}-[A-Z]+$",max_length=10)],slong=T.Annotated[str,Field(max_length=50000)],json=Json,past=PastDate,b64=Base64Str,cond=conlist(int,min_length=2,max_length=2),bytesize=ByteSize,nested=dict[str,dict[str,list[T.Optional[Color]]]])
out={}
for k,t in types.items():
    for mode in ("validation","serialization"):
        for wrap in (0,1):
            try:
                s = TypeAdapter(t).json_schema(mode=mode) if not wrap else create_model("M",x=(t,...),y=(T.Optional[t],None)).model_json_schema(mode=mode)
                out[f"pydantic {k} {mode} {wrap}"]=s
            except Exception as e: print(k,mode,wrap,str(e)[:100])
seen={}
for k,v in out.items():
    t=json.dumps(v,sort_keys=True)
    if t not in seen.values(): seen[k]=t
json.dump({k:out[k] for k in seen},open(sys.argv[1] if len(sys.argv) > 1 else "pydantic.json","w")); print(len(seen))
